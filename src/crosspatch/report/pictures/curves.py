"""The training curves of one or more fine-tunes, validated, and the panels in which they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.characters import natural_order
from crosspatch.report.pictures.panels import Line, Panel, Role
from crosspatch.statistics.status import divergence

# From this ratio of the largest to the smallest loss on, a linear axis shows the small ones as zero.
_LOG_RATIO = 20.0

# What the losses are of; a control may be trained on right solutions too.
TRAINED, HELD_OUT = "solutions trained on", "right solutions, held out"
DIFFERENCE = "Divergence: held out minus trained on"
_BY_STEP: Any = {"axis": "optimizer step", "unit": "nats a token", "missing": "no loss was logged"}


@dataclass(frozen=True)
class Curve:
    """One run's values of one kind by optimizer step."""

    run: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ValueError(f"run {self.run!r}: got {len(self.steps)} steps and {len(self.values)} values")


@dataclass(frozen=True)
class TrainingCurves:
    """Losses on the solutions trained on and on right ones held out, and their difference; nats a token."""

    train: tuple[Curve, ...]
    evaluation: tuple[Curve, ...]
    divergence: tuple[Curve, ...]

    @classmethod
    def of(cls, training: pl.DataFrame) -> TrainingCurves:
        """The curves in a training frame; values that are no numbers are left out."""
        return cls(
            _curves(training, "train_loss"),
            _curves(training, "eval_loss"),
            _curves(divergence(training), "divergence"),
        )

    @property
    def runs(self) -> list[str]:
        """The runs' names; numbers in them count as numbers, so epochs-3 comes before epochs-12."""
        return sorted({curve.run for curve in (*self.train, *self.evaluation)}, key=natural_order)

    @property
    def log(self) -> bool:
        """Whether the losses need a logarithmic axis: they span a factor of 20 or more, and none is 0."""
        losses = [value for curve in (*self.train, *self.evaluation) for value in curve.values]
        return bool(losses) and min(losses) > 0 and max(losses) / min(losses) >= _LOG_RATIO


def _curves(frame: pl.DataFrame, column: str) -> tuple[Curve, ...]:
    curves = []
    for run in sorted(frame["run"].unique(), key=natural_order):
        rows = frame.filter(pl.col("run") == run).sort("step")
        points = [
            (step, value)
            for step, value in rows.select("step", column).iter_rows()
            if value is not None and math.isfinite(value)
        ]
        if points:
            curves.append(Curve(run, tuple(step for step, _ in points), tuple(value for _, value in points)))
    return tuple(curves)


def training_panels(curves: TrainingCurves) -> list[Panel]:
    """Losses and divergence by optimizer step, a colour a run."""

    def lines(*groups: tuple[tuple[Curve, ...], str, Role]) -> tuple[Line, ...]:
        return tuple(
            _line(curve, what if len(curves.runs) == 1 else f"{run}: {what}", role, place)
            for place, run in enumerate(curves.runs)
            for group, what, role in groups
            for curve in group
            if curve.run == run
        )

    losses = lines((curves.train, TRAINED, "dense"), (curves.evaluation, HELD_OUT, "held out"))
    difference = lines((curves.divergence, "divergence", "main"))
    return [
        Panel("Loss, log scale" if curves.log else "Loss", losses, log=curves.log, **_BY_STEP),
        Panel(DIFFERENCE, difference, levels=(0.0,), legend=False, **_BY_STEP),
    ]


def search_panels(
    curves: TrainingCurves, titles: tuple[str, str] = ("Wrong solutions (trained)", "Right solutions (evaluated)")
) -> list[Panel]:
    """The variants of a search side by side, as the paper's Figure 2: loss on wrong solutions, loss on right ones."""

    def lines(group: tuple[Curve, ...], role: Role) -> tuple[Line, ...]:
        return tuple(
            _line(curve, curve.run.removeprefix("variant-"), role, curves.runs.index(curve.run)) for curve in group
        )

    positive = all(value > 0 for curve in curves.train for value in curve.values)
    return [
        Panel(titles[0], lines(curves.train, "dense"), log=positive, **_BY_STEP),
        Panel(titles[1], lines(curves.evaluation, "main"), legend=not curves.train, **_BY_STEP),
    ]


def _line(curve: Curve, name: str, role: Role, colour: int) -> Line:
    nothing = (None,) * len(curve.steps)
    return Line(name, curve.steps, curve.values, nothing, nothing, role, colour)
