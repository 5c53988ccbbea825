"""Measures of patches, by prompt or over all cells: each is a ratio of two sums.

The bootstrap resamples the sums of whole prompts, since tokens of one prompt are not independent. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crosspatch.config import COMPONENTS

# The terms that a cell adds to the sums, as Float64: the columns are Float32, too coarse to sum thousands of cells.
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
    # Only cells with a CTS count, as in the other measures by which patches are compared with controls.
    "flips": (OK & (pl.col("token_id") == pl.col("corrupted_token_id"))).cast(pl.Float64),
    "reciprocal_ranks": _where(OK, 1 / pl.col("rank_corrupted").cast(pl.Float64)),
    "kl_clean": _KL_CLEAN,
    "kl_gained": _KL_CLEAN - _KL_PATCHED,
}
SUMS = {name: cell.sum() for name, cell in CELLS.items()}


@dataclass(frozen=True)
class Recovered:
    """Sums over cells, in logits: `moved` is Σ(ΔL_patched − ΔL_target), `gap` is Σ(ΔL_source − ΔL_target)."""

    moved: float = 0.0
    gap: float = 0.0

    def __add__(self, other: Recovered) -> Recovered:
        return Recovered(self.moved + other.moved, self.gap + other.gap)

    @property
    def fraction(self) -> float | None:
        """The recovered fraction: 0 is the target's behaviour, 1 the source's; None if the gap is 0."""
        return self.moved / self.gap if self.gap else None


def recovered_fraction(moved: pl.Expr, gap: pl.Expr | float) -> pl.Expr:
    """The recovered fraction as an expression of the two sums; null where the gap is 0."""
    return pl.when(gap != 0).then(moved / gap)


@dataclass(frozen=True)
class Measure:
    """A ratio of two sums over cells; a `share` is always between 0 and 1."""

    name: str
    above: str
    below: str
    meaning: str
    share: bool = False

    @property
    def ratio(self) -> pl.Expr:
        """The measure as an expression of a table of sums; null where the denominator is 0."""
        return recovered_fraction(pl.col(self.above), pl.col(self.below))


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("disagreement_rate", "disagreements", "positions", "share of steps with y_clean ≠ y_corrupt", True),
        Measure("mean_cts", "cts", "ok_cells", "mean CTS over the cells with a CTS"),
        Measure(
            "recovered_fraction",
            "moved",
            "gap",
            "Σ(ΔL_patch − ΔL_clean) / Σ(ΔL_corrupt − ΔL_clean), the recovered fraction",
        ),
        Measure(
            "kl_recovered_fraction",
            "kl_gained",
            "kl_clean",
            "1 − ΣKL(corrupted‖patched) / ΣKL(corrupted‖clean), all steps",
        ),
        Measure("flip_rate", "flips", "ok_cells", "share of cells with a CTS where token = y_corrupt", True),
        Measure("reciprocal_rank", "reciprocal_ranks", "ok_cells", "mean of 1 / rank of y_corrupt there", True),
    )
}
# The measures by which patches are compared with controls, which are scored only where the models disagree.
COMPARED = ("mean_cts", "recovered_fraction", "flip_rate", "reciprocal_rank")


def in_half(prompts: int, half: int) -> NDArray[np.bool_]:
    """Return a mask of the prompts at even (half 0) or odd (half 1) indices.

    A patch is chosen on one half and measured on the other (see `statistics.bootstrap.chosen`).
    """
    return np.arange(prompts) % 2 == half


# The components that occur once in a layer, and a filter for patches of one such component in one layer.
LAYER_COMPONENTS = tuple(name for name in COMPONENTS if name != "head")
ONE_LAYER = pl.col("layer").is_not_null() & pl.col("component").is_in(LAYER_COMPONENTS)

PATCH_KEYS = ("patch", "component", "layer", "head", "direction", "persistence")

_CTS = pl.col("cts").cast(pl.Float64).filter(OK)
_COUNTS = ("positions", "disagreements", "ok_cells", "small_denominators", "outside_unit", "prompts")
_MORE_COUNTS = {
    "small_denominators": (pl.col("status") == "small_denominator").sum(),
    "outside_unit": ((_CTS < 0) | (_CTS > 1)).sum(),
    "prompts": pl.col("prompt_id").n_unique(),
}
_POOLED = (
    "positions", "disagreements", "disagreement_rate", "ok_cells", "small_denominators", "outside_unit", "mean_cts",
    "recovered_fraction", "prompts",
)  # fmt: skip


def pooled(scores: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Aggregate the scores into one row for each patch (and each combination of values of the columns `by`).

    positions: cells; disagreements, disagreement_rate: number and share of cells where y_clean and y_corrupt differ;
    ok_cells: cells with a CTS; mean_cts: mean CTS over the ok cells; recovered_fraction: Σ(ΔL_patch − ΔL_clean) /
    Σ(ΔL_corrupt − ΔL_clean), so cells with a tiny denominator cannot dominate; outside_unit: CTS values below 0 or
    above 1. mean_cts and recovered_fraction are null where no cell is ok.
    """
    keys = (*by, *PATCH_KEYS)
    sums = scores.group_by(keys, maintain_order=True).agg(**SUMS, **_MORE_COUNTS)
    ratios = {name: MEASURES[name].ratio for name in ("disagreement_rate", "mean_cts", "recovered_fraction")}
    return sums.with_columns(pl.col(_COUNTS).cast(pl.Int64), **ratios).select(*keys, *_POOLED)
