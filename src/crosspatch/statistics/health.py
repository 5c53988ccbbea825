"""How sound a model's texts are: shares of texts with each fault. Knows nothing of how they were looked at."""

from __future__ import annotations

import polars as pl

# All faults of the text itself; that a text was cut off may be its limit's fault.
MALFORMED = ("looped", "backslash_runs", "escaped_newlines", "unclosed", "unparsable")


def output_health(health: pl.DataFrame) -> pl.DataFrame:
    """A row for each model or patch: condition, patch, texts, `unsound` and the share of texts with each fault.

    `unsound` is the share of texts with any fault but `cut_off`.
    """
    malformed = pl.any_horizontal(pl.col(name) > 0 for name in MALFORMED)
    return health.group_by("condition", "patch", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("texts"),
        malformed.mean().alias("unsound"),
        *((pl.col(name) > 0).mean().alias(name) for name in (*MALFORMED, "cut_off")),
    )
