"""Depth profiles: how often the models disagree, and how much transfers where they do, layer by layer.

The two are kept apart because the published scores merge them: a cell where both models want the same token
says nothing about transfer. Knows nothing of intervals, controls or pictures.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from crosspatch.results.domain import ordered_domains, with_domain
from crosspatch.results.measures import CELLS, DIFFER, OK

PATCH_KEYS = ("patch", "component", "layer", "head", "direction", "persistence")

_CTS = pl.col("cts").cast(pl.Float64).filter(OK)
_MOVED, _GAP = (CELLS[name].sum() for name in ("moved", "gap"))

MEASURES = (
    pl.len().cast(pl.Int64).alias("positions"),
    DIFFER.sum().cast(pl.Int64).alias("disagreements"),
    DIFFER.mean().alias("disagreement_rate"),
    OK.sum().cast(pl.Int64).alias("ok_cells"),
    (pl.col("status") == "small_denominator").sum().cast(pl.Int64).alias("small_denominators"),
    ((_CTS < 0) | (_CTS > 1)).sum().cast(pl.Int64).alias("outside_unit"),
    _CTS.mean().alias("mean_cts"),
    pl.when(_GAP != 0).then(_MOVED / _GAP).alias("transfer"),
    pl.col("prompt_id").n_unique().cast(pl.Int64).alias("prompts"),
)


def depth_profile(scores: pl.DataFrame, domains: Mapping[str, str]) -> pl.DataFrame:
    """A row for each domain and patch: `domain`, the patch's columns, then the measures.

    positions: cells; disagreements, disagreement_rate: those where y_clean and y_corrupt differ, their share;
    ok_cells: cells with a CTS; mean_cts: its mean over them; transfer: Σ(ΔL_patch − ΔL_clean) over
    Σ(ΔL_corrupt − ΔL_clean), the ratio of sums, which cells with a tiny denominator cannot dominate;
    outside_unit: CTS values below 0 or above 1. mean_cts and transfer are null where no cell is ok.
    `domains` gives each prompt's domain; raises ValueError for a prompt that it lacks.
    """
    profile = _profile(with_domain(scores, domains), "domain")
    order = pl.col("domain").cast(pl.Enum(ordered_domains(domains.values())))
    return profile.sort(order, "component", "direction", "persistence", "layer", "head", "patch", nulls_last=True)


def prompt_profile(scores: pl.DataFrame) -> pl.DataFrame:
    """The same measures with a row for each prompt and patch, `prompt_id` in place of `domain`."""
    keys = ("prompt_id", "component", "direction", "persistence", "layer", "head", "patch")
    return _profile(scores, "prompt_id").sort(keys, nulls_last=True)


def published_cts(scores: pl.DataFrame, threshold: float = 1e-4) -> pl.DataFrame:
    """The scores as the authors' code counts them: CTS is 0.0 wherever it is undefined, for comparison only.

    Computed anew from the ΔLs: `threshold` (logits) is theirs and need not be this run's. A mean over this
    column is mostly the rate of agreement, which is why nothing else here uses it.
    """
    gap = pl.col("delta_corrupted") - pl.col("delta_clean")
    defined = DIFFER & (gap.abs() >= threshold)
    cts = (pl.col("delta_patched") - pl.col("delta_clean")) / gap
    return scores.with_columns(pl.when(defined).then(cts).otherwise(0.0).cast(pl.Float32).alias("cts"))


def _profile(scores: pl.DataFrame, unit: str) -> pl.DataFrame:
    return scores.group_by(unit, *PATCH_KEYS, maintain_order=True).agg(MEASURES)
