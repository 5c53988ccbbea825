"""The training curves drawn by matplotlib, for print. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from crosspatch.characters import visible
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.curves import DIFFERENCE, HELD_OUT, TRAINED, Curve, TrainingCurves
from crosspatch.report.pictures.glyphs import drawable
from crosspatch.report.print.panels import frames, legend_below
from crosspatch.report.print.style import LEVEL, PAGE, Size, style, whole_numbers


def training_figure(curves: TrainingCurves, size: Size = PAGE) -> Figure:
    """Losses and divergence by optimizer step, a colour a run."""
    with style():
        figure, (losses, difference) = frames(size, 2, 2, height=1.7)
        single = len(curves.runs) == 1
        for place, run in enumerate(curves.runs):
            prefix = "" if single else f"{visible(run, 40)}: "
            for axes, group, look, label in (
                (losses, curves.train, "-", prefix + TRAINED),
                (losses, curves.evaluation, "o:", prefix + HELD_OUT),
                (difference, curves.divergence, "o-", "_hidden"),
            ):
                _plot(axes, group, run, look, place, label)
        losses.set_title("Loss" + (" (log scale)" if curves.log else ""), loc="left")
        losses.set_ylabel("nats a token")
        if curves.log:
            _logarithmic(losses)
        difference.set_title(DIFFERENCE, loc="left")
        difference.set_ylabel("nats a token")
        difference.axhline(0, color=LEVEL, linewidth=0.6, linestyle="--")
        for axes in (losses, difference):
            axes.set_xlabel("optimizer step")
            axes.xaxis.set_major_locator(whole_numbers())
            if not size.wide:
                axes.label_outer()
        # A run's two entries stand one below the other.
        legend_below(figure, size, losses, in_pairs=not single)
    return figure


def search_figure(
    curves: TrainingCurves,
    size: Size = PAGE,
    titles: tuple[str, str] = ("Wrong solutions (trained)", "Right solutions (evaluated)"),
) -> Figure:
    """The variants of a search side by side, as the paper's Figure 2: loss on wrong solutions, loss on right ones."""
    with style():
        figure, (trained, evaluated) = frames(size, 2, 2, height=1.7)
        for axes, group, title, look in (
            (trained, curves.train, titles[0], "-"),
            (evaluated, curves.evaluation, titles[1], "o-"),
        ):
            for place, run in enumerate(curves.runs):
                _plot(axes, group, run, look, place, visible(run.removeprefix("variant-"), 60))
            axes.set_title(title, loc="left")
            axes.set_ylabel("loss, nats a token")
            axes.set_xlabel("optimizer step")
            axes.xaxis.set_major_locator(whole_numbers())
            if not size.wide:
                axes.label_outer()
        if all(value > 0 for curve in curves.train for value in curve.values):
            _logarithmic(trained)
        legend_below(figure, size, trained if curves.train else evaluated)
    return figure


def _plot(axes: Axes, group: Sequence[Curve], run: str, look: str, place: int, label: str) -> None:
    for curve in (curve for curve in group if curve.run == run):
        shape = look if len(curve.steps) > 1 else "o"
        axes.plot(curve.steps, curve.values, shape, color=palette.series(place), label=drawable(label))


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
