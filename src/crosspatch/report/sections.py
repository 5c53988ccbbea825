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
from crosspatch.report.interactive.curves import training_figure
from crosspatch.report.interactive.panels import panels_figure
from crosspatch.report.pictures.curves import TrainingCurves
from crosspatch.report.pictures.head_map import HeadMap
from crosspatch.report.pictures.panels import Panel, accuracy_panels, depth_panels
from crosspatch.report.prompts import domains_of
from crosspatch.report.template import packed
from crosspatch.statistics.profile import depth_profile
from crosspatch.statistics.variant import Variant, variants
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
    """One variant's depth profile and the same as numbers."""

    variant: Variant
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
    groups = {"train loss": curves.train, "eval loss": curves.evaluation, "divergence": curves.divergence}
    rows = [
        [curve.run, measure, step, value]
        for measure, group in groups.items()
        for curve in group
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    columns = ["run", "measure", "step", "value (nats a token)"]
    return _chart("training-curves", training_figure(curves), columns, rows, least_width=640, label="Training curves")


def accuracy_chart(summary: Summary) -> Chart | None:
    """Right answers under patching, by layer; None where no single layer was patched."""
    panels = accuracy_panels(summary.comparisons, summary.patched)
    if not panels:
        return None
    return panels_chart("accuracy", panels, least_width=640, label="Accuracy under patching")


def depth_sections(scores: pl.DataFrame, problems: Mapping[str, Problem], summary: Summary) -> Iterator[Depth]:
    """A depth profile for each variant."""
    domains = domains_of(problems)
    for place, variant in enumerate(variants(scores)):
        profile = depth_profile(variant.rows(scores), domains)
        panels = depth_panels(summary.depth, variant)
        # A run that goes on may have scores that its summary did not have yet.
        if not panels:
            continue
        label = f"Depth profile, {variant.label}"
        yield Depth(
            variant,
            panels_chart(f"depth-{place}", panels, least_width=700, label=label),
            profile.to_dicts(),
            score_findings(scores, variant, domains),
            bool(profile["ok_cells"].sum()),
        )


def panels_chart(name: str, panels: Sequence[Panel], *, least_width: int, label: str) -> Chart:
    """Lines over layers as a chart."""
    rows = [
        [panel.title, line.name, layer, value, low, high]
        for panel in panels
        for line in panel.lines
        for layer, value, low, high in zip(line.layers, line.values, line.lows, line.highs, strict=True)
    ]
    columns = ["panel", "line", "layer", "value", "low", "high"]
    return _chart(name, panels_figure(panels), columns, rows, least_width=least_width, label=label)


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


def _chart(name: str, figure: Any, columns: list[str], rows: list[list[Any]], *, least_width: int, label: str) -> Chart:
    tree = figure.to_plotly_json()
    tree["layout"].pop("template", None)
    shown = [[legible(value) if isinstance(value, str) else value for value in row] for row in rows]
    table = {"name": legible(label), "columns": columns, "rows": shown}
    height = int(figure.layout.height)
    return Chart(name, packed(tree), packed(table), height, least_width, label)
