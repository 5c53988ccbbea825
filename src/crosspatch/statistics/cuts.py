"""The first divergence over all prompts of a domain: at which layer the state takes over from the late layers.

Shares are ratios of sums over prompts, of the gap between the models; a decision is the share of prompts whose wanted
token one half of the corrupted model turns by itself. Knows the rows of first divergences, not how they were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from crosspatch.statistics.bootstrap import Ratios, bootstrap, seeded_resamples
from crosspatch.statistics.domain import ordered_domains, with_domain
from crosspatch.statistics.interval import Numbers
from crosspatch.tables import CUTS


def cuts(divergences: pl.DataFrame, domains: Mapping[str, str], *, seed: int = 0) -> pl.DataFrame:
    """Every measure at every layer of every domain, with 95 % intervals over prompts (see tables.CUTS).

    Raises ValueError for a prompt without a domain.
    """
    known = with_domain(divergences, domains)
    rows = []
    for domain in ordered_domains(known["domain"]):
        of_domain = known.filter(domain=domain)
        units = of_domain["prompt_id"].n_unique()
        counts, _ = seeded_resamples(units, seed)
        for (layer,), part in of_domain.sort("layer").partition_by("layer", as_dict=True, maintain_order=True).items():
            for measure, above, below, share in _measures(part.sort("prompt_id")):
                # A layer that was not looked at after every prompt has fewer units than are drawn.
                if len(above) != units:
                    continue
                found = bootstrap(Ratios(above[None], below[None]), counts, share=share)
                rows.append(
                    {
                        "domain": domain,
                        "layer": layer,
                        "measure": measure,
                        **found.columns,
                        "units": units,
                    }
                )
    return CUTS.frame(rows)


def _measures(part: pl.DataFrame) -> Iterator[tuple[str, Numbers, Numbers, bool]]:
    """Each measure as sums [N prompts] above and below the line, and whether it lies between 0 and 1."""
    gap = _numbers(part, pl.col("delta_corrupted") - pl.col("delta_clean"))
    for name in ("upstream", "late", "interaction"):
        yield name, _numbers(part, pl.col(name)), gap, False
    ones = np.ones(part.height)
    # ΔL > 0: the corrupted model's token is the likelier of the two.
    yield "state_decides", _numbers(part, pl.col("delta_state") > 0), ones, True
    yield "late_decides", _numbers(part, pl.col("delta_late") > 0), ones, True


def _numbers(part: pl.DataFrame, expression: pl.Expr) -> Numbers:
    return part.select(expression.cast(pl.Float64)).to_series().to_numpy()
