"""Depth profiles: disagreement rate, and recovered fraction where the models disagree, by layer.

These are separate measures here, while the published scores merge them: a cell where both models predict the same token
has no recovered fraction.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from crosspatch.patching.measures import DIFFER, pooled
from crosspatch.statistics.domain import ordered_domains, with_domain
from crosspatch.statistics.patch_mode import by_mode, last_layer, late_from
from crosspatch.tables import WORDS


def depth_profile(scores: pl.DataFrame, domains: Mapping[str, str]) -> pl.DataFrame:
    """Compute the measures of `measures.pooled` by domain and patch; the first column is `domain`.

    `domains` maps prompts to domains; raises ValueError for a prompt that is not in it.
    """
    profile = pooled(with_domain(scores, domains), "domain")
    order = pl.col("domain").cast(pl.Enum(ordered_domains(domains.values())))
    return profile.sort(order, "component", "direction", "persistence", "layer", "head", "patch", nulls_last=True)


def prompt_profile(scores: pl.DataFrame) -> pl.DataFrame:
    """Compute the same measures by prompt and patch, with the column `prompt_id` instead of `domain`."""
    keys = ("prompt_id", "component", "direction", "persistence", "layer", "head", "patch")
    return pooled(scores, "prompt_id").sort(keys, nulls_last=True)


def published_cts(scores: pl.DataFrame, threshold: float = 1e-4) -> pl.DataFrame:
    """Compute CTS as the authors' code does, for comparison only: CTS is 0.0 wherever it is undefined.

    `threshold` (logits) is the authors' and may differ from this run's. A mean over this column mostly depends on how
    often the models agree, so only `word_statistics` reports one, beside `mean_cts`.
    """
    gap = pl.col("delta_corrupted") - pl.col("delta_clean")
    defined = DIFFER & (gap.abs() >= threshold)
    cts = (pl.col("delta_patched") - pl.col("delta_clean")) / gap
    return scores.with_columns(pl.when(defined).then(cts).otherwise(0.0).cast(pl.Float32).alias("cts"))


def word_statistics(scores: pl.DataFrame, domains: Mapping[str, str], *, n_layers: int | None = None) -> pl.DataFrame:
    """Summarise each generated token by domain and mode, in the late layers except the last: see tables.WORDS.

    Tokens are sorted by their published CTS (`published_cts`), highest first. `n_layers` is the model's depth (None:
    unknown, see `last_layer`). Raises ValueError for a prompt without a domain.
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
