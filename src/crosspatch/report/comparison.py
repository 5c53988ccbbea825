"""Several runs side by side: what differs between them, their claims, their answers, and their depth profiles.

The runs may differ in seed, in the training variant, or in the model. Each run's own report has more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from crosspatch.characters import legible
from crosspatch.report.interactive import Chart
from crosspatch.report.pictures.panels import Line, Panel, line_over_layers
from crosspatch.report.tables import AnswerTable, Table
from crosspatch.report.template import flat, rendered
from crosspatch.statistics.answers import table2, table2_rows
from crosspatch.statistics.claim import difference
from crosspatch.statistics.domain import domain_title, ordered_domains
from crosspatch.statistics.interval import Interval
from crosspatch.statistics.patch_mode import KEYS, PatchMode, every_mode

# The parts of a run's record that describe how it was made, without times and stages.
_MADE_OF = ("settings", "seeds", "versions", "models", "data")
_PLACE = ("claim", "domain", *KEYS)
_MEASURES = {"recovered_fraction": "Recovered fraction", "disagreement_rate": "Disagreement rate"}


@dataclass(frozen=True)
class ComparedRun:
    """One run: its label on the page, its record, and its tables (see crosspatch.tables).

    `link` is the relative address of its own report (None: it has no report); `n_layers` is None if unknown.
    """

    label: str
    record: Mapping[str, Any]
    depth: pl.DataFrame
    claims: pl.DataFrame
    behaviour: pl.DataFrame
    n_layers: int | None = None
    link: str | None = None


@dataclass(frozen=True)
class ClaimRow:
    """A claim with its verdict and its numbers in each run; the verdict is None if the run lacks the claim."""

    statement: str
    found: tuple[tuple[str | None, str], ...]


def compared_settings(runs: Sequence[ComparedRun]) -> Table:
    """The settings, versions, models and data that differ between the runs, with their values in each."""
    made = [dict(flat({key: run.record.get(key, {}) for key in _MADE_OF})) for run in runs]
    keys = dict.fromkeys(key for values in made for key in values)
    rows = [[key, *(values.get(key, "–") for values in made)] for key in keys]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    return Table("differences", ["what", *(run.label for run in runs)], differing)


def compared_claims(runs: Sequence[ComparedRun]) -> list[ClaimRow]:
    """The claims of all runs, in the order of the first run that has them."""
    statements: dict[tuple[Any, ...], str] = {}
    found: list[dict[tuple[Any, ...], tuple[str, str]]] = []
    for run in runs:
        own = {}
        for row in run.claims.iter_rows(named=True):
            key = tuple(row[name] for name in _PLACE)
            statements.setdefault(key, row["statement"])
            numbers = f"{Interval.of_row(row)}, {row['control']}: {Interval.of_row(row, 'control_')}"
            apart = difference(row)
            own[key] = (row["verdict"], f"{numbers}, difference {apart}" if apart else numbers)
        found.append(own)
    return [ClaimRow(text, tuple(own.get(key, (None, "")) for own in found)) for key, text in statements.items()]


def compared_panels(runs: Sequence[ComparedRun], mode: PatchMode, measure: str = "recovered_fraction") -> list[Panel]:
    """A panel for each domain with a line for each run.

    The axis is the layer, or the relative depth if the models differ in depth.
    """
    depths = {run.n_layers for run in runs}
    same = len(depths) == 1 or None in depths
    lines: dict[str, list[Line]] = {}
    for place, run in enumerate(runs):
        own = mode.every_row(run.depth).filter(
            pl.col("layer").is_not_null(), pl.col("control").is_null(), measure=measure, contrast="value"
        )
        for (domain,), rows in own.partition_by("domain", as_dict=True).items():
            line = line_over_layers(rows, run.label, colour=place)
            if not same and run.n_layers and run.n_layers > 1:
                line = replace(line, x=tuple(round(layer / (run.n_layers - 1), 4) for layer in line.x))
            lines.setdefault(domain, []).append(line)
    return [
        Panel(
            domain_title(domain),
            tuple(lines[domain]),
            levels=(0.0, 1.0) if measure == "recovered_fraction" else (),
            share=measure == "disagreement_rate",
            axis="layer" if same else "depth (0 is the first layer, 1 the last)",
        )
        for domain in ordered_domains(lines)
    ]


def render_comparison(runs: Sequence[ComparedRun], title: str) -> str:
    """The page as a string; the labels of the runs must differ."""
    charts: list[tuple[PatchMode, list[tuple[str, Chart]]]] = []
    for place, mode in enumerate(every_mode(pl.concat(run.depth for run in runs))):
        drawn = [
            (heading, Chart(f"{measure.replace('_', '-')}-{place}", f"{heading}, {mode.label}", panels))
            for measure, heading in _MEASURES.items()
            if (panels := compared_panels(runs, mode, measure))
        ]
        charts.append((mode, drawn))
    rows = {run.label: table2_rows(table2(run.behaviour)) for run in runs if not run.behaviour.is_empty()}
    return rendered(
        "comparison",
        title=title,
        runs=runs,
        names=[legible(run.record["settings"].get("name", "")) for run in runs],
        differences=compared_settings(runs),
        claims=compared_claims(runs),
        answers={
            label: AnswerTable.of([row for row in own if row.patch is None], f"table 2 {label}")
            for label, own in rows.items()
        },
        charts=charts,
    )
