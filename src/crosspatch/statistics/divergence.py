"""Divergence of a fine-tune: loss on right solutions minus loss on the wrong ones it is trained on (Table 1).

Knows nothing of what a good divergence is.
"""

from __future__ import annotations

import polars as pl


def divergence(training: pl.DataFrame) -> pl.DataFrame:
    """A row an evaluation: run, step, epoch, eval_loss, train_loss, divergence (eval_loss − train_loss).

    train_loss is that of the last training row at or before the evaluation, as in the paper; before the first
    training row it is null, and so is the divergence.
    """
    evaluated = training.filter(pl.col("eval_loss").is_not_null()).select("run", "step", "epoch", "eval_loss")
    trained = training.filter(pl.col("train_loss").is_not_null()).select("run", "step", "train_loss")
    joined = evaluated.sort("step").join_asof(
        trained.sort("step"), on="step", by="run", strategy="backward", check_sortedness=False
    )
    return joined.sort("run", "step").with_columns(divergence=pl.col("eval_loss") - pl.col("train_loss"))
