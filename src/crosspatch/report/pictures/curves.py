"""The training curves of one or more fine-tunes, validated and ready to draw.

Knows nothing of drawing libraries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from crosspatch.characters import natural_order
from crosspatch.statistics.status import divergence

# From this ratio of the largest to the smallest loss on, a linear axis shows the small ones as zero.
_LOG_RATIO = 20.0

# What the losses are of; a control may be trained on right solutions too.
TRAINED, HELD_OUT = "solutions trained on", "right solutions, held out"
DIFFERENCE = "Divergence: held out minus trained on"


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
