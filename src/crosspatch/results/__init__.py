"""The run directory and the statistics of what stands in it. Needs no torch."""
