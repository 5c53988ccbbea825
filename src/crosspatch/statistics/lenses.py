"""Summaries of the lenses: weights by layer and matrix, activations by layer with intervals, tokens that change most.

All children are measured in the same way: a change that also occurs in a child without the mistake is not due to the
mistake.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from crosspatch.statistics.answers import OUTCOMES, comparisons
from crosspatch.statistics.bootstrap import chosen, estimates, held_out
from crosspatch.statistics.domain import with_domain
from crosspatch.statistics.interval import wilson
from crosspatch.tables import STEERED, STEERED_RANDOM

_MOVED, _CLEAN = pl.col("delta_norm").pow(2).sum(), pl.col("clean_norm").pow(2).sum()
_KEY = ("child", "component", "layer", "head", "at")
_CHANGES = ("change", "probability")
# Each measure is a ratio of two sums over prompts, so each prompt's mean is weighted by its number of steps.
_ACTIVATION = {
    "relative_norm": (pl.col("delta_norm") * pl.col("steps"), pl.col("clean_norm") * pl.col("steps")),
    "cosine": (pl.col("cosine") * pl.col("steps"), pl.col("steps")),
    "alignment": (pl.col("alignment") * pl.col("steps"), pl.when(pl.col("alignment").is_not_null()).then("steps")),
}
_GAPS = {"lens_recovered_fraction": (pl.col("lens_gap") * pl.col("steps"), pl.col("model_gap") * pl.col("steps"))}
_INTERVALS = {
    "child": pl.String,
    "domain": pl.String,
    "component": pl.String,
    "layer": pl.Int32,
    "head": pl.Int32,
    "at": pl.String,
    "measure": pl.String,
    **dict.fromkeys(("estimate", "low", "high", "effective"), pl.Float64),
    "n_prompts": pl.Int32,
}


def weights_by(weights: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Summarise how much the blocks' weights changed, for each child and each value of `by`: "layer", "name" or both.

    `delta_norm` and `clean_norm` are norms over all weights of the group, and `ratio` is their ratio; `share` is the
    part of the squared change in all blocks; `effective_rank` and `stable_rank` are means over changed matrices.
    """
    summed = (
        weights.filter(pl.col("layer").is_not_null())
        .group_by("child", *by, maintain_order=True)
        .agg(
            delta_norm=_MOVED.sqrt(),
            clean_norm=_CLEAN.sqrt(),
            effective_rank=pl.col("effective_rank").mean(),
            stable_rank=pl.col("stable_rank").mean(),
        )
    )
    squared = pl.col("delta_norm").pow(2)
    total = squared.sum().over("child")
    return summed.with_columns(
        ratio=pl.when(pl.col("clean_norm") > 0).then(pl.col("delta_norm") / pl.col("clean_norm")),
        share=pl.when(total > 0).then(squared / total),
    )


def activation_statistics(activations: pl.DataFrame, domains: Mapping[str, str], *, seed: int = 0) -> pl.DataFrame:
    """Compute relative_norm, cosine and alignment with 95 % intervals, by child, domain, site and `at` (kind of step).

    relative_norm is Σ‖delta‖ / Σ‖clean‖ over steps, the other measures are means over steps. Intervals are by bootstrap
    over prompts, with the same resamples for all children. Raises ValueError for a prompt that is not in `domains`.
    """
    return pl.DataFrame(estimates(activations, domains, _KEY, _ACTIVATION, seed=seed), schema=_INTERVALS)


def lens_statistics(logit_lens: pl.DataFrame, domains: Mapping[str, str], *, seed: int = 0) -> pl.DataFrame:
    """Compute `lens_recovered_fraction` by child, domain and layer: the fraction of the models' gap in the lens.

    The fraction is Σ lens_gap / Σ model_gap over the steps where the models disagree: 0 is none of the gap, 1 all of
    it. Intervals are computed as in `activation_statistics`, which raises the same errors.
    """
    once = logit_lens.filter(rank=1, side="up", by="logit").with_columns(
        component=pl.lit("resid_post"), head=pl.lit(None, pl.Int32), at=pl.lit("disagree")
    )
    return pl.DataFrame(estimates(once, domains, _KEY, _GAPS, seed=seed), schema=_INTERVALS)


def moved_tokens(logit_lens: pl.DataFrame, domains: Mapping[str, str]) -> pl.DataFrame:
    """Return the tokens that are raised or lowered most, by child, domain, layer, ranking and side.

    `change` and `probability` are means over the `prompts` that list the token, and `of` is the number of all prompts.
    Tokens are sorted by the number of prompts that list them, then by the absolute change of their logits.
    """
    known = with_domain(logit_lens, domains)
    place = ("child", "domain", "layer", "by", "side")
    of = known.group_by(*place).agg(of=pl.col("prompt_id").n_unique().cast(pl.Int64))
    return (
        known.group_by(*place, "token_id", "token", maintain_order=True)
        .agg(prompts=pl.col("prompt_id").n_unique().cast(pl.Int64), **{name: pl.col(name).mean() for name in _CHANGES})
        .join(of, on=place)
        .sort(
            *place,
            "prompts",
            pl.col("change").abs(),
            descending=[False] * 4 + [True] * 3,
            maintain_order=True,
        )
    )


def steering(behaviour: pl.DataFrame) -> pl.DataFrame:
    """Compare right answers and planted operations in steered texts with the clean model's.

    Returns rows of tables.COMPARISONS, sorted by layer and strength.
    """
    asked = behaviour.filter(pl.col("condition").is_in(["clean", STEERED, STEERED_RANDOM]))
    found = comparisons(asked).filter(pl.col("condition") != "clean")
    return found.sort("layer", "strength", "outcome", "condition", maintain_order=True)


def chosen_steering(behaviour: pl.DataFrame) -> pl.DataFrame:
    """Measure steering at the layer and strength chosen on the other half of the prompts, with Wilson's interval.

    The table has a row for each outcome and condition: `outcome`, `condition`, `count`, `n`, and the ends `low` and
    `high` of the share's interval. The chosen layer and strength lose the most right answers, or give the planted
    operation most often; those for random directions are chosen in the same way. Only prompts with an answer at every
    layer and strength count.
    """
    rows = []
    for outcome, (happened, counted) in OUTCOMES.items():
        for condition in (STEERED, STEERED_RANDOM):
            judged = behaviour.filter(counted, condition=condition).select("prompt_id", "patch", yes=happened)
            table = judged.pivot("patch", index="prompt_id", values="yes").drop_nulls()
            yes = table.drop("prompt_id").cast(pl.Float64).to_numpy().T
            wanted = 1 - yes if outcome == "correct" else yes
            choices = chosen(wanted, np.ones(table.height))
            if choices is None:
                continue
            count = int(held_out(yes, choices).sum())
            share = wilson(count, table.height)
            rows.append((outcome, condition, count, table.height, share.low, share.high))
    schema = {"outcome": pl.String, "condition": pl.String, "count": pl.Int64, "n": pl.Int64}
    return pl.DataFrame(rows, schema={**schema, "low": pl.Float64, "high": pl.Float64}, orient="row")
