"""The training curves drawn by matplotlib, for print. Knows nothing of files."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from crosspatch.report import palette
from crosspatch.report.curves import DIFFERENCE, HELD_OUT, TRAINED, TrainingCurves
from crosspatch.report.glyphs import drawable, visible
from crosspatch.report.matplotlib_style import style, whole_numbers


def training_figure(curves: TrainingCurves) -> Figure:
    """Losses and divergence by optimizer step, a colour a run."""
    with style():
        figure = Figure(figsize=(10, 4.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        single = len(curves.runs) == 1
        for place, run in enumerate(curves.runs):
            prefix = "" if single else f"{visible(run)}: "
            for axes, group, look, label in (
                (left, curves.train, "-", prefix + TRAINED),
                (left, curves.evaluation, "o:", prefix + HELD_OUT),
                (right, curves.divergence, "o-", "_hidden"),
            ):
                for curve in group:
                    if curve.run == run:
                        shape = look if len(curve.steps) > 1 else "o"
                        axes.plot(
                            curve.steps,
                            curve.values,
                            shape,
                            color=palette.series(place),
                            markersize=3.5,
                            linewidth=1.5,
                            label=drawable(label),
                        )
        left.set_title("Loss" + (" (log scale)" if curves.log else ""), loc="left")
        left.set_ylabel("nats a token")
        if curves.log:
            left.set_yscale("log")
            left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            left.yaxis.set_minor_formatter(NullFormatter())
        right.set_title(DIFFERENCE, loc="left")
        right.axhline(0, color="#8b93a1", linewidth=0.8, linestyle="--")
        for axes in (left, right):
            axes.set_xlabel("optimizer step")
            axes.xaxis.set_major_locator(whole_numbers())
        handles, labels = left.get_legend_handles_labels()
        if labels:
            # A run's entries stand one below the other while there are three runs or fewer.
            columns = 2 if single else min(len(curves.runs), 3)
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7.5)
    return figure


def search_figure(curves: TrainingCurves) -> Figure:
    """The variants of a search side by side, as the paper's Figure 2: loss on wrong solutions, loss on right ones."""
    with style():
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, group, title in (
            (left, curves.train, "Wrong solutions (trained)"),
            (right, curves.evaluation, "Right solutions (evaluated)"),
        ):
            for place, run in enumerate(curves.runs):
                for curve in (curve for curve in group if curve.run == run):
                    axes.plot(
                        curve.steps,
                        curve.values,
                        "-" if axes is left else "o-",
                        color=palette.series(place),
                        markersize=3,
                        linewidth=1.4,
                        label=drawable(visible(run.removeprefix("variant-"), 60)),
                    )
            axes.set_title(title, loc="left")
            axes.set_ylabel("loss, nats a token")
            axes.set_xlabel("optimizer step")
            axes.xaxis.set_major_locator(whole_numbers())
            _legend(axes)
        if all(value > 0 for curve in curves.train for value in curve.values):
            left.set_yscale("log")
            left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            left.yaxis.set_minor_formatter(NullFormatter())
    return figure


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7.5)
