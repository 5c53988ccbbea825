"""Several runs side by side: what differs between them, their claims, their answers, and their depth profiles.

Seeds, variants of a fine-tune, or models; each run's own report has the rest. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from crosspatch.characters import legible
from crosspatch.report.pictures.panels import Line, Panel, line_over_layers
from crosspatch.report.sections import Chart, panels_chart
from crosspatch.report.template import flat, plotting, rendered
from crosspatch.statistics.answers import ConditionRow, table2, table2_rows
from crosspatch.statistics.claim import difference
from crosspatch.statistics.domain import domain_title, ordered_domains
from crosspatch.statistics.interval import Interval
from crosspatch.statistics.patch_mode import KEYS, PatchMode, every_mode

# What of a run's record tells how it was made; times and stages do not.
_MADE_OF = ("settings", "seeds", "versions", "models", "data")
_PLACE = ("claim", "domain", *KEYS)


@dataclass(frozen=True)
class ComparedRun:
    """One run: what it is called here, its record, and its tables (see crosspatch.tables).

    `link` is the address of its own report from the page, None where it has none; `n_layers` is None where it is not
    known.
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
    """A claim and, for each run, its verdict there (None: the run does not have it) and its numbers."""

    statement: str
    found: tuple[tuple[str | None, str], ...]


@dataclass(frozen=True)
class Comparison:
    """Runs in the order in which they were named; raises ValueError for fewer than two, or for one name twice."""

    runs: tuple[ComparedRun, ...]

    def __post_init__(self) -> None:
        labels = [run.label for run in self.runs]
        if len(labels) < 2:
            raise ValueError(f"a comparison needs two runs or more, got {len(labels)}")
        if len(set(labels)) < len(labels):
            raise ValueError(f"each run needs a name of its own, got {', '.join(labels)}")

    def differences(self) -> list[tuple[str, list[str]]]:
        """(setting, its value in each run) of settings, versions, models and data that are not the same in all."""
        made = [dict(flat({key: run.record.get(key, {}) for key in _MADE_OF})) for run in self.runs]
        keys = dict.fromkeys(key for values in made for key in values)
        rows = [(key, [values.get(key, "–") for values in made]) for key in keys]
        return [(key, values) for key, values in rows if len(set(values)) > 1]

    def claims(self) -> list[ClaimRow]:
        """The claims of all runs, in the order in which they are met."""
        met: dict[tuple[Any, ...], str] = {}
        found: list[dict[tuple[Any, ...], tuple[str, str]]] = []
        for run in self.runs:
            own = {}
            for row in run.claims.iter_rows(named=True):
                key = tuple(row[name] for name in _PLACE)
                met.setdefault(key, row["statement"])
                against = f"{row['control']}: {Interval.of_row(row, 'control_')}"
                apart = f", difference {told}" if (told := difference(row)) else ""
                own[key] = (row["verdict"], f"{Interval.of_row(row)}, {against}{apart}")
            found.append(own)
        return [ClaimRow(statement, tuple(own.get(key, (None, "")) for own in found)) for key, statement in met.items()]

    def answers(self) -> list[tuple[str, list[ConditionRow]]]:
        """Each run's unpatched models as in Table 2; runs without answers are left out."""
        tables = [(run.label, table2_rows(table2(run.behaviour))) for run in self.runs if not run.behaviour.is_empty()]
        return [(label, [row for row in rows if row.patch is None]) for label, rows in tables]

    def modes(self) -> list[PatchMode]:
        """The modes that any run has, in a fixed order."""
        return every_mode(pl.concat(run.depth for run in self.runs))

    def panels(self, mode: PatchMode, measure: str = "recovered_fraction") -> list[Panel]:
        """A panel for each domain with a line for each run.

        Over layers, or, where the models have several depths, over parts of the depth.
        """
        depths = {run.n_layers for run in self.runs}
        same = len(depths) == 1 or None in depths
        own = [self._of(run, mode, measure) for run in self.runs]
        domains = ordered_domains(domain for rows in own for domain in rows["domain"].unique())
        return [
            Panel(
                domain_title(domain),
                tuple(self._lines(own, domain, same)),
                levels=(0.0, 1.0) if measure == "recovered_fraction" else (),
                share=measure == "disagreement_rate",
                axis="layer" if same else "depth (0 is the first layer, 1 the last)",
            )
            for domain in domains
        ]

    @staticmethod
    def _of(run: ComparedRun, mode: PatchMode, measure: str) -> pl.DataFrame:
        own = mode.every_row(run.depth).filter(measure=measure, contrast="value")
        return own.filter(pl.col("layer").is_not_null(), pl.col("control").is_null())

    def _lines(self, own: Sequence[pl.DataFrame], domain: str, same: bool) -> Iterator[Line]:
        for place, (run, rows) in enumerate(zip(self.runs, own, strict=True)):
            line = line_over_layers(rows.filter(domain=domain), run.label, colour=place)
            if not same and run.n_layers and run.n_layers > 1:
                last = run.n_layers - 1
                line = replace(line, x=tuple(round(layer / last, 4) for layer in line.x))
            if line.x:
                yield line


def render_comparison(comparison: Comparison, title: str) -> str:
    """The page as a string."""
    charts: list[tuple[PatchMode, list[tuple[str, Chart]]]] = []
    for place, mode in enumerate(comparison.modes()):
        drawn = []
        for measure, heading in (
            ("recovered_fraction", "Recovered fraction"),
            ("disagreement_rate", "Disagreement rate"),
        ):
            if panels := comparison.panels(mode, measure):
                name = f"{measure.replace('_', '-')}-{place}"
                drawn.append((heading, panels_chart(name, panels, least_width=700, label=f"{heading}, {mode.label}")))
        charts.append((mode, drawn))
    all_charts = [chart for _, drawn in charts for _, chart in drawn]
    data = {name: part for chart in all_charts for name, part in chart.data.items()}
    answers = comparison.answers()
    return rendered(
        "comparison",
        title=title,
        data=data | ({"plotly": plotting()} if charts else {}),
        runs=comparison.runs,
        names=[legible(run.record["settings"].get("name", "")) for run in comparison.runs],
        differences=comparison.differences(),
        claims=comparison.claims(),
        answers=answers,
        domains=ordered_domains(domain for _, rows in answers for row in rows for domain in row.outcomes),
        charts=charts,
    )
