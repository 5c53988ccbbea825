"""What is measured of patches, prompt by prompt: sums, of which every measure is a ratio.

Ratios of sums, so that prompts can be drawn anew without counting tokens as if they were independent. Knows nothing
of intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

# What a cell is, and what it adds to a sum: Float64, since the columns are Float32 and there are thousands of cells.
OK = pl.col("status") == "ok"
DIFFER = pl.col("clean_token_id") != pl.col("corrupted_token_id")
_CLEAN, _CORRUPTED, _PATCHED = (pl.col(f"delta_{name}").cast(pl.Float64) for name in ("clean", "corrupted", "patched"))
_KL_CLEAN, _KL_PATCHED = (pl.col(name).cast(pl.Float64) for name in ("kl_clean", "kl_patched"))


def _where(holds: pl.Expr, value: pl.Expr) -> pl.Expr:
    return pl.when(holds).then(value).otherwise(0.0)


CELLS = {
    "positions": pl.col("prompt_id").is_not_null().cast(pl.Float64),
    "disagreements": DIFFER.cast(pl.Float64),
    "ok_cells": OK.cast(pl.Float64),
    "cts": _where(OK, pl.col("cts").cast(pl.Float64)),
    "moved": _where(OK, _PATCHED - _CLEAN),
    "gap": _where(OK, _CORRUPTED - _CLEAN),
    # Where there is a CTS, as all else that a control is compared in: a schedule's rests are not among these.
    "flips": (OK & (pl.col("token_id") == pl.col("corrupted_token_id"))).cast(pl.Float64),
    "reciprocal_ranks": _where(OK, 1 / pl.col("rank_corrupted").cast(pl.Float64)),
    "kl_clean": _KL_CLEAN,
    "kl_gained": _KL_CLEAN - _KL_PATCHED,
}
SUMS = tuple(cell.sum().alias(name) for name, cell in CELLS.items())


@dataclass(frozen=True)
class Measure:
    """A ratio of two sums over cells; a `share` cannot leave [0, 1]."""

    name: str
    above: str
    below: str
    meaning: str
    share: bool = False


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("disagreement_rate", "disagreements", "positions", "share of steps with y_clean ≠ y_corrupt", True),
        Measure("mean_cts", "cts", "ok_cells", "mean CTS over the cells that have one"),
        Measure("transfer", "moved", "gap", "Σ(ΔL_patch − ΔL_clean) / Σ(ΔL_corrupt − ΔL_clean), ratio-of-sums CTS"),
        Measure("kl_transfer", "kl_gained", "kl_clean", "1 − ΣKL(corrupted‖patched) / ΣKL(corrupted‖clean), all steps"),
        Measure("flip_rate", "flips", "ok_cells", "share of the cells with a CTS where y_corrupt is written", True),
        Measure("reciprocal_rank", "reciprocal_ranks", "ok_cells", "mean of 1 / rank of y_corrupt there", True),
    )
}
# What a control, which is measured where the models disagree, can be compared in.
COMPARED = ("mean_cts", "transfer", "flip_rate", "reciprocal_rank")


def prompt_sums(scores: pl.DataFrame, *by: str) -> pl.DataFrame:
    """A row for each prompt and each value of `by` (patch, control, a token class, …): the sums of its cells."""
    return scores.group_by("prompt_id", *by, maintain_order=True).agg(SUMS)
