"""What `crosspatch localise` prints: the most telling places, and where the models first part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from crosspatch.cli.application import console
from crosspatch.cli.tables import print_rows
from crosspatch.tables import DIVERGENCES, LOCALISATION

if TYPE_CHECKING:
    from crosspatch.storage.run import RunDirectory

# Places of each component that are shown.
_TOP = 5


def print_places(directory: RunDirectory) -> None:
    """The places and first divergences of a run directory, domain by domain."""
    from crosspatch.statistics.domain import domain_title
    from crosspatch.statistics.interval import Interval
    from crosspatch.statistics.localisation import EXTENTS, TELLING, cuts, most_telling, places

    domains = directory.domains()
    measured = directory.read(LOCALISATION)
    table = places(measured, domains, seed=directory.seed)
    for domain, direction, extent in table.select("domain", "direction", "extent").unique(maintain_order=True).rows():
        title = f"{domain_title(domain)}, {direction}, patched {EXTENTS[extent]}"
        rows = []
        for component, measure in TELLING.items():
            best = table.filter(
                domain=domain, direction=direction, extent=extent, component=component, measure=measure
            ).sort("estimate", descending=True, nulls_last=True)
            for row in best.head(_TOP).iter_rows(named=True):
                shown = str(Interval.of_row(row))
                rows.append({"place": row["patch"], "measure": measure, "share": shown, "prompts": str(row["units"])})
        print_rows(title, rows)
        for named in most_telling(measured, domains, domain, direction, extent=extent, seed=directory.seed):
            console.print(named.sentence, soft_wrap=True)
    parts = cuts(directory.read(DIVERGENCES), domains, seed=directory.seed)
    for domain in parts["domain"].unique(maintain_order=True):
        lines: dict[int, dict[str, str]] = {}
        for row in parts.filter(pl.col("domain") == domain).sort("layer").iter_rows(named=True):
            line = lines.setdefault(row["layer"], {"cut after layer": str(row["layer"])})
            line[row["measure"]] = str(Interval.of_row(row))
        print_rows(
            f"{domain_title(domain)}: the first divergence, state below against layers above", list(lines.values())
        )
