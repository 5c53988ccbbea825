"""The training curves and the depth profile drawn by matplotlib, for print. Knows nothing of files."""

from __future__ import annotations

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from crosspatch.report import palette
from crosspatch.report.curves import DIFFERENCE, HELD_OUT, TRAINED, TrainingCurves
from crosspatch.report.glyphs import drawable, visible
from crosspatch.report.matplotlib_style import BLANK, style, whole_numbers
from crosspatch.results.domain import domain_title, ordered_domains


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


def depth_figure(profile: pl.DataFrame) -> Figure:
    """How much transfers, how often the models disagree, and out of how many cells, by layer and domain."""
    with style():
        figure = Figure(figsize=(12, 4), layout="constrained")
        transfer, rate, count = figure.subplots(1, 3, width_ratios=[1.7, 1, 1])
        for place, domain in enumerate(ordered_domains(profile["domain"])):
            rows = profile.filter(pl.col("domain") == domain).sort("layer")
            name, colour = (
                drawable(visible(domain_title(domain), 60).replace("␣", " ")),
                palette.series(place),
            )
            for axes, key, look, label in (
                (transfer, "mean_cts", "o-", f"{name}: mean CTS"),
                (transfer, "transfer", "o:", f"{name}: ratio of sums"),
                (rate, "disagreement_rate", "o-", name),
                (count, "ok_cells", "o-", name),
            ):
                entry = label
                if axes is transfer and rows[key].null_count() == rows.height:
                    # Nothing to draw, but the reader must learn whose line is missing and why.
                    entry = f"{name}: no cell with a CTS" if key == "mean_cts" else "_hidden"
                values = [BLANK if value is None else value for value in rows[key]]
                face = colour if look == "o-" else "white"
                axes.plot(
                    rows["layer"].to_list(),
                    values,
                    look,
                    color=colour,
                    markerfacecolor=face,
                    markersize=3.5,
                    linewidth=1.5,
                    label=entry,
                )
        transfer.set_title("Transfer where the models disagree", loc="left")
        for level in (0, 1):
            transfer.axhline(level, color="#8b93a1", linewidth=0.8, linestyle="--", zorder=0)
        rate.set_title("Disagreement rate", loc="left")
        rate.yaxis.set_major_formatter(PercentFormatter(1))
        count.set_title("Cells with a CTS", loc="left")
        for axes in (transfer, rate, count):
            axes.set_xlabel("layer")
            axes.xaxis.set_major_locator(whole_numbers())
        for axes in (rate, count):
            axes.set_ylim(bottom=0)
        _legend(transfer)
    return figure


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7.5)
