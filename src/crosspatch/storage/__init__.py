"""The run directory: tables, shards, locks and exports. Needs no torch."""
