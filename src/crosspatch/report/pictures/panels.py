"""Lines in panels side by side, validated and ready to draw.

The recovered fraction with its controls and accuracy, by layer; losses, by optimizer step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from crosspatch.characters import natural_order
from crosspatch.config import Direction
from crosspatch.statistics.domain import domain_title, ordered_domains
from crosspatch.statistics.patch_mode import PatchMode, patched_layers
from crosspatch.statistics.status import divergence
from crosspatch.tables import REPAIRED

# How a line is drawn: a measure with few points (main) or many (dense), a second measure in the same colour (beside) or
# one with few points (held out), or what other lines are compared with (control).
Role = Literal["main", "dense", "beside", "held out", "control"]

_CONTROLS = {"self": "itself", "random": "random direction", "other_prompt": "another prompt's difference"}
_UNPATCHED = ("clean", "corrupted")

# The names of the losses; a control may be trained on right solutions.
TRAINED, HELD_OUT = "solutions trained on", "right solutions, held out"
DIFFERENCE = "Divergence: held out minus trained on"
# Above this ratio of the largest to the smallest loss the axis is logarithmic.
_LOG_RATIO = 20.0
_BY_STEP: Any = {"axis": "optimizer step", "unit": "nats a token", "missing": "no loss was logged"}


@dataclass(frozen=True)
class Line:
    """Values by layer or step with their intervals; None where a value or an interval is undefined.

    Empty `lows` and `highs` mean that no value has an interval.
    """

    name: str
    x: tuple[float, ...]
    values: tuple[float | None, ...]
    lows: tuple[float | None, ...] = ()
    highs: tuple[float | None, ...] = ()
    role: Role = "main"
    colour: int = 0

    def __post_init__(self) -> None:
        for ends in ("lows", "highs"):
            object.__setattr__(self, ends, getattr(self, ends) or (None,) * len(self.x))
        sizes = {len(part) for part in (self.x, self.values, self.lows, self.highs)}
        if len(sizes) > 1:
            raise ValueError(f"line {self.name!r}: x, values and ends differ in number, got {sorted(sizes)}")

    @property
    def defined(self) -> bool:
        """Whether there is anything to draw."""
        return any(value is not None for value in self.values)

    @property
    def band(self) -> bool:
        """Whether any value has an interval."""
        return any(low is not None for low in self.lows)


@dataclass(frozen=True)
class Panel:
    """Lines in one frame; `levels` are horizontal lines, and `share` means that values are shares of 1.

    `axis` is the name of x: layer, step or relative depth. `legend` is false if another panel has the same legend.
    `missing` is the text of a frame without lines.
    """

    title: str
    lines: tuple[Line, ...]
    levels: tuple[float, ...] = ()
    share: bool = False
    axis: str = "layer"
    unit: str = ""
    log: bool = False
    legend: bool = True
    missing: str = "no cell with a CTS"

    @property
    def defined(self) -> bool:
        """Whether any line has anything to draw."""
        return any(line.defined for line in self.lines)

    @property
    def reach(self) -> tuple[float, float]:
        """The range of x of all lines, with a margin."""
        layers = [x for line in self.lines for x in line.x] or [0.0]
        room = 0.05 * (max(layers) - min(layers)) or 0.5
        return min(layers) - room, max(layers) + room


def depth_panels(depth: pl.DataFrame, mode: PatchMode) -> list[Panel]:
    """A panel of the recovered fraction and its controls for each domain, and one of the disagreement rate.

    `depth` are depth statistics (see tables.DEPTH).
    """
    own = mode.every_row(depth).filter(pl.col("layer").is_not_null(), contrast="value")
    domains = ordered_domains(own["domain"])
    # A control has the same colour in all panels, even if a domain lacks another control.
    colours = {name: i for i, name in enumerate(own["control"].drop_nulls().unique(maintain_order=True), start=1)}
    panels = [Panel(*_recovered(own.filter(domain=domain), domain, colours), levels=(0.0, 1.0)) for domain in domains]
    rates = own.filter(measure="disagreement_rate")
    lines = [line_over_layers(rates.filter(domain=d), domain_title(d), colour=i) for i, d in enumerate(domains)]
    return [*panels, Panel("Disagreement rate", tuple(lines), share=True)] if panels else []


def _recovered(rows: pl.DataFrame, domain: str, colours: Mapping[str, int]) -> tuple[str, tuple[Line, ...]]:
    recovered = rows.filter(measure="recovered_fraction")
    main = line_over_layers(recovered.filter(pl.col("control").is_null()), "recovered fraction")
    mean = line_over_layers(
        rows.filter(pl.col("measure") == "mean_cts", pl.col("control").is_null()), "mean CTS", "beside"
    )
    there = set(recovered["control"].drop_nulls())
    controls = [
        line_over_layers(recovered.filter(control=name), _CONTROLS.get(name, name), "control", colour)
        for name, colour in colours.items()
        if name in there
    ]
    units = int(recovered.filter(pl.col("control").is_null())["n_prompts"].max() or 0)  # type: ignore[arg-type]
    prompts = f"{units} prompt{'' if units == 1 else 's'} with a CTS"
    return f"{domain_title(domain)}: {prompts}", (main, mean, *controls)


def accuracy_panels(comparisons: pl.DataFrame, patched: Direction = "corrupt") -> list[Panel]:
    """A panel for each domain with the accuracy by patched layer, and the accuracy of the unpatched models.

    `comparisons` is a table as in tables.COMPARISONS; `patched` is the direction of the condition `patched`. No panels
    if no single layer was patched.
    """
    right = patched_layers(comparisons.filter(outcome="correct"))
    return [
        Panel(domain_title(domain), tuple(lines), levels=(0.0, 1.0), share=True)
        for domain in ordered_domains(right["domain"])
        if (lines := list(_accuracies(right.filter(domain=domain), patched)))
    ]


def _accuracies(right: pl.DataFrame, of_patched: Direction) -> Iterator[Line]:
    patched = right.unique(["condition", "patch"], maintain_order=True)
    for i, (condition, component) in enumerate(
        patched.select("condition", "component").unique(maintain_order=True).iter_rows()
    ):
        rows = patched.filter(condition=condition, component=component)
        repaired = condition == REPAIRED or of_patched == "repair"
        into = "clean activations into the corrupted model" if repaired else "corrupted into clean"
        name = into if patched["component"].n_unique() == 1 else f"{into}, {component}"
        yield line_over_layers(rows, name, colour=i)
    layers = tuple(sorted(patched["layer"].unique()))
    for i, condition in enumerate(_UNPATCHED, start=2):
        # On the patched questions: the accuracy of the other model of each pair.
        pairs = right.filter(against=condition).head(1)
        if pairs.height:
            share = int(pairs["there"][0]) / int(pairs["pairs"][0])
            yield Line(f"{condition} model", layers, (share,) * len(layers), role="control", colour=i)


def line_over_layers(rows: pl.DataFrame, name: str, role: Role = "main", colour: int = 0) -> Line:
    """A measure by layer; `rows` are the rows of one measure in a table such as tables.DEPTH."""
    ordered = rows.sort("layer")
    layers, values, lows, highs = (tuple(ordered[column]) for column in ("layer", "estimate", "low", "high"))
    return Line(name, layers, values, lows, highs, role, colour)


def training_panels(training: pl.DataFrame) -> list[Panel]:
    """Losses and divergence by optimizer step, with a colour for each run; no panels if no loss was logged."""
    runs = _runs(training)
    losses, differences = [], []
    for place, run in enumerate(runs):
        before = f"{run}: " if len(runs) > 1 else ""
        losses += _losses(training, "train_loss", run, f"{before}{TRAINED}", "dense", place)
        losses += _losses(training, "eval_loss", run, f"{before}{HELD_OUT}", "held out", place)
        differences += _losses(divergence(training), "divergence", run, f"{before}divergence", "main", place)
    values = [value for line in losses for value in line.values if value is not None]
    log = bool(values) and min(values) > 0 and max(values) / min(values) >= _LOG_RATIO
    panels = [
        Panel("Loss, log scale" if log else "Loss", tuple(losses), log=log, **_BY_STEP),
        Panel(DIFFERENCE, tuple(differences), levels=(0.0,), legend=False, **_BY_STEP),
    ]
    return panels if runs else []


def search_panels(
    training: pl.DataFrame, titles: Sequence[str] = ("Wrong solutions (trained)", "Right solutions (evaluated)")
) -> list[Panel]:
    """The training variants as in the paper's Figure 2: loss on wrong solutions, loss on right ones.

    No panels if no loss was logged.
    """
    runs = _runs(training)

    def lines(column: str, role: Role) -> tuple[Line, ...]:
        names = {run: run.removeprefix("variant-") for run in runs}
        found = (_losses(training, column, run, name, role, at) for at, (run, name) in enumerate(names.items()))
        return tuple(line for lines in found for line in lines)

    trained, evaluated = lines("train_loss", "dense"), lines("eval_loss", "main")
    positive = all(value > 0 for line in trained for value in line.values if value is not None)
    panels = [
        Panel(titles[0], trained, log=positive, **_BY_STEP),
        Panel(titles[1], evaluated, legend=not trained, **_BY_STEP),
    ]
    return panels if runs else []


def _runs(training: pl.DataFrame) -> list[str]:
    """The runs with a loss in natural order: epochs-3 is before epochs-12."""
    some = training.filter(pl.any_horizontal(pl.col("train_loss", "eval_loss").is_finite()))
    return sorted(some["run"].unique(), key=natural_order)


def _losses(frame: pl.DataFrame, column: str, run: str, name: str, role: Role, colour: int) -> list[Line]:
    """One run's line; empty if no value is finite."""
    points = frame.filter(pl.col("run") == run, pl.col(column).is_finite()).sort("step")
    return [Line(name, tuple(points["step"]), tuple(points[column]), role=role, colour=colour)] if len(points) else []
