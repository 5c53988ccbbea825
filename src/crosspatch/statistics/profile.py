"""Depth profiles: how often the models disagree, and how much is recovered where they do, layer by layer.

The two are kept apart because the published scores merge them: a cell where both models predict the same token has no
recovered fraction.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from crosspatch.patching.measures import DIFFER, pooled
from crosspatch.statistics.domain import ordered_domains, with_domain
from crosspatch.statistics.patch_mode import by_mode, last_layer, late_from
from crosspatch.tables import WORDS


def depth_profile(scores: pl.DataFrame, domains: Mapping[str, str]) -> pl.DataFrame:
    """A row for each domain and patch: `domain`, the patch's columns, then the measures (see `measures.pooled`).

    `domains` gives each prompt's domain; raises ValueError for a prompt that it lacks.
    """
    profile = pooled(with_domain(scores, domains), "domain")
    order = pl.col("domain").cast(pl.Enum(ordered_domains(domains.values())))
    return profile.sort(order, "component", "direction", "persistence", "layer", "head", "patch", nulls_last=True)


def prompt_profile(scores: pl.DataFrame) -> pl.DataFrame:
    """The same measures with a row for each prompt and patch, `prompt_id` in place of `domain`."""
    keys = ("prompt_id", "component", "direction", "persistence", "layer", "head", "patch")
    return pooled(scores, "prompt_id").sort(keys, nulls_last=True)


def published_cts(scores: pl.DataFrame, threshold: float = 1e-4) -> pl.DataFrame:
    """The scores as the authors' code counts them: CTS is 0.0 wherever it is undefined, for comparison only.

    Computed from the ΔLs: `threshold` (logits) is theirs and need not be this run's. A mean over this
    column is mostly the rate of agreement, which is why nothing else here uses it.
    """
    gap = pl.col("delta_corrupted") - pl.col("delta_clean")
    defined = DIFFER & (gap.abs() >= threshold)
    cts = (pl.col("delta_patched") - pl.col("delta_clean")) / gap
    return scores.with_columns(pl.when(defined).then(cts).otherwise(0.0).cast(pl.Float32).alias("cts"))


def word_statistics(scores: pl.DataFrame, domains: Mapping[str, str], *, n_layers: int | None = None) -> pl.DataFrame:
    """A row for each token that was written, by domain and mode, in the late layers but the last: tables.WORDS.

    Tokens that the published way of counting would score highest come first. `n_layers` is the model's depth (None: not
    known, see `last_layer`). Raises ValueError for a prompt without a domain.
    """
    tables = [WORDS.frame()]
    for domain, mode, rows in by_mode(scores, domains):
        last = last_layer(rows["layer"], n_layers)
        late = rows.filter(pl.col("layer") >= late_from(last), pl.col("layer") < last)
        counted = (
            late.with_columns(published=published_cts(late)["cts"].cast(pl.Float64))
            .group_by("token", maintain_order=True)
            .agg(
                positions=pl.len().cast(pl.Int64),
                prompts=pl.col("prompt_id").n_unique().cast(pl.Int64),
                disagreements=DIFFER.sum().cast(pl.Int64),
                disagreement_rate=DIFFER.mean(),
                mean_cts=pl.col("cts").cast(pl.Float64).mean(),
                published_cts=pl.col("published").mean(),
            )
            .sort("published_cts", "positions", descending=True, maintain_order=True)
        )
        place = {"domain": domain, **mode.columns}
        tables.append(
            counted.with_columns(pl.lit(value).alias(key) for key, value in place.items()).select(*WORDS.dtypes)
        )
    return pl.concat(tables)
