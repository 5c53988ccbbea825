"""What a judge's ratings of free answers come to. Knows no judge."""

from __future__ import annotations

import polars as pl


def mean_ratings(ratings: pl.DataFrame) -> pl.DataFrame:
    """Means by condition and patch, over the answers that have both ratings (`rated` of `answers`).

    Null where no answer has both.
    """
    both = pl.col("aligned").is_not_null() & pl.col("coherent").is_not_null()
    return ratings.group_by("condition", "patch", maintain_order=True).agg(
        pl.col("aligned").filter(both).mean(),
        pl.col("coherent").filter(both).mean(),
        both.sum().alias("rated"),
        pl.len().alias("answers"),
    )
