"""The sections of the page that have charts: training curves, accuracy, depth profiles, heads.

Everything that the template shows of them, ready to be placed: each chart travels packed, with its numbers as a table.
Knows nothing of the template, nor of the explorer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.characters import legible
from crosspatch.data.problem import Problem
from crosspatch.report.findings import score_findings
from crosspatch.report.interactive import panels_figure
from crosspatch.report.pictures.curves import TrainingCurves, training_panels
from crosspatch.report.pictures.head_map import HeadMap
from crosspatch.report.pictures.panels import Panel, accuracy_panels, depth_panels
from crosspatch.report.prompts import domains_of
from crosspatch.report.template import packed
from crosspatch.statistics.patch_mode import PatchMode, modes
from crosspatch.statistics.profile import depth_profile
from crosspatch.storage.summary import Summary


@dataclass(frozen=True)
class Chart:
    """A plotly figure on the page, packed: its element's id, its table, and the width below which it scrolls."""

    id: str
    figure: str
    table: str
    height: int
    least_width: int
    label: str

    @property
    def data(self) -> dict[str, str]:
        """Its part of the page's packed data."""
        return {self.id: self.figure, f"{self.id}-table": self.table}


@dataclass(frozen=True)
class Depth:
    """One mode's depth profile and the same as numbers."""

    mode: PatchMode
    chart: Chart
    numbers: list[dict[str, Any]]
    findings: list[str]
    defined: bool


def training_chart(training: pl.DataFrame | None) -> Chart | None:
    """The training curves; None where there are none to draw."""
    if training is None:
        return None
    curves = TrainingCurves.of(training)
    if not curves.runs:
        return None
    return panels_chart("training-curves", training_panels(curves), least_width=640, label="Training curves")


def accuracy_chart(summary: Summary) -> Chart | None:
    """Right answers under patching, by layer; None where no single layer was patched."""
    panels = accuracy_panels(summary.comparisons, summary.patched)
    if not panels:
        return None
    return panels_chart("accuracy", panels, least_width=640, label="Accuracy under patching")


def depth_sections(scores: pl.DataFrame, problems: Mapping[str, Problem], summary: Summary) -> Iterator[Depth]:
    """A depth profile for each mode."""
    domains = domains_of(problems)
    for place, mode in enumerate(modes(scores)):
        profile = depth_profile(mode.rows(scores), domains)
        panels = depth_panels(summary.depth, mode)
        # A run that goes on may have scores that its summary did not have yet.
        if not panels:
            continue
        label = f"Depth profile, {mode.label}"
        yield Depth(
            mode,
            panels_chart(f"depth-{place}", panels, least_width=700, label=label),
            profile.to_dicts(),
            score_findings(scores, mode, domains),
            bool(profile["ok_cells"].sum()),
        )


def panels_chart(name: str, panels: Sequence[Panel], *, least_width: int, label: str) -> Chart:
    """Lines in panels as a chart."""
    figure = panels_figure(panels)
    tree = figure.to_plotly_json()
    tree["layout"].pop("template", None)
    rows = [
        [legible(panel.title), legible(line.name), *point]
        for panel in panels
        for line in panel.lines
        for point in zip(line.x, line.values, line.lows, line.highs, strict=True)
    ]
    columns = ["panel", "line", panels[0].axis, "value", "low", "high"]
    table = {"name": legible(label), "columns": columns, "rows": rows}
    return Chart(name, packed(tree), packed(table), int(figure.layout.height), least_width, label)


def heads_section(maps: Sequence[HeadMap]) -> list[dict[str, Any]]:
    """Pictures of the heads as JSON."""
    return [
        {
            "title": legible(found.title),
            "notes": [legible(note) for note in found.notes()],
            "layers": found.layers,
            "heads": found.heads,
            "reach": found.reach,
            "cells": [list(cell) for cell in found.cells.iter_rows()],
        }
        for found in maps
    ]
