"""Which written tokens score high, and why: because the models disagree there, or because much transfers there.

The published scores count cells where the models agree as 0 (see `profile.published_cts`), so a token's mean score is
its rate of disagreement times what transfers where they disagree. Here the two stand apart, token by token. Knows no
class of token and no interval: single tokens are too few for that.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from crosspatch.statistics.domain import ordered_domains, with_domain
from crosspatch.statistics.profile import published_cts
from crosspatch.statistics.variant import last_layer, late_from, variants
from crosspatch.tables import WORDS


def word_statistics(scores: pl.DataFrame, domains: Mapping[str, str], *, n_layers: int | None = None) -> pl.DataFrame:
    """A row for each token that was written, by domain and variant, in the late layers but the last: tables.WORDS.

    Those that the published way of counting would score highest come first. `n_layers` is the model's depth (None: not
    known, see `last_layer`). Raises ValueError for a prompt without a domain.
    """
    known = with_domain(scores, domains)
    tables = [WORDS.frame()]
    for domain in ordered_domains(known["domain"]):
        of_domain = known.filter(domain=domain)
        for variant in variants(of_domain):
            rows = variant.rows(of_domain)
            last = last_layer(rows["layer"], n_layers)
            late = rows.filter(pl.col("layer") >= late_from(last), pl.col("layer") < last)
            differ = late["clean_token_id"] != late["corrupted_token_id"]
            counted = (
                late.with_columns(published=published_cts(late)["cts"].cast(pl.Float64), differ=differ)
                .group_by("token", maintain_order=True)
                .agg(
                    positions=pl.len().cast(pl.Int64),
                    prompts=pl.col("prompt_id").n_unique().cast(pl.Int64),
                    disagreements=pl.col("differ").sum().cast(pl.Int64),
                    disagreement_rate=pl.col("differ").mean(),
                    mean_cts=pl.col("cts").cast(pl.Float64).mean(),
                    published_cts=pl.col("published").mean(),
                )
                .sort("published_cts", "positions", descending=True, maintain_order=True)
            )
            place = {"domain": domain, **variant.columns}
            tables.append(
                counted.with_columns(pl.lit(value).alias(key) for key, value in place.items()).select(*WORDS.dtypes)
            )
    return pl.concat(tables)
