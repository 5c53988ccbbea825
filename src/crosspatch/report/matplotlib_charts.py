"""The charts drawn by matplotlib, for print: heatmap, training curves, depth profile.

`Figure` objects without pyplot, so nothing global is touched and no screen is needed. All text passes through
`drawable`, and none is read as mathtext. Knows nothing of files.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from crosspatch.report import palette
from crosspatch.report.curves import TrainingCurves
from crosspatch.report.glyphs import drawable, legible, tick_label, visible
from crosspatch.report.heatmap import CTS_RANGE, LABELLED_STEPS, Cell, Heatmap
from crosspatch.results.domain import domain_title, ordered_domains

_STYLE: Any = {
    "text.usetex": False,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#59616d",
    "axes.grid": False,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
}


@contextmanager
def style() -> Iterator[None]:
    """Our settings while a figure is made or saved; the user's own come back afterwards."""
    with mpl.rc_context(_STYLE):
        yield


def heatmap_figure(heatmap: Heatmap) -> Figure:
    """One prompt's heatmap: colour where CTS is defined, greys where it is not, white beyond its text."""
    grid, layers, steps = heatmap.grid(), heatmap.layers, heatmap.steps
    labelled = len(steps) <= LABELLED_STEPS
    width = 2.6 + max(5.4, 0.105 * min(len(steps), LABELLED_STEPS))
    notes = _wrapped(heatmap.notes(), width)
    with style():
        figure = Figure(
            figsize=(width, 2.5 + 0.2 * max(3, len(layers)) + 0.15 * notes.count("\n")), layout="constrained"
        )
        axes = figure.add_subplot()
        extent = (steps[0] - 0.5, steps[-1] + 0.5, -0.5, len(layers) - 0.5)
        common: dict[str, Any] = {
            "origin": "lower",
            "aspect": "auto",
            "interpolation": "none",
            "extent": extent,
        }
        greys = {"agree": 0.0, "small_denominator": 1.0}
        axes.imshow(
            [[greys.get(cell["status"], _BLANK) if cell else _BLANK for cell in row] for row in grid],
            cmap=ListedColormap([palette.AGREE, palette.SMALL_DENOMINATOR]),
            vmin=0,
            vmax=1,
            **common,
        )
        image = axes.imshow(
            [[cell["cts"] if cell and cell["cts"] is not None else _BLANK for cell in row] for row in grid],
            cmap=LinearSegmentedColormap.from_list("cts", palette.CTS_SCALE),
            vmin=-CTS_RANGE,
            vmax=CTS_RANGE,
            **common,
        )
        figure.colorbar(image, ax=axes, label="CTS", aspect=24, pad=0.01, fraction=0.05)
        handles: list[Any] = [Patch(color=palette.AGREE, label="both models want the same token")]
        handles += _marks(axes, heatmap)
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderaxespad=1.9,
            borderpad=0,
            ncols=4,
            fontsize=7.5,
            handlelength=1.2,
        )
        axes.set_yticks(range(len(layers)), [str(layer) for layer in layers], fontsize=8)
        axes.set_ylabel("layer")
        axes.set_title(_title(heatmap, width), loc="left", pad=34)
        _token_axis(axes, heatmap, labelled)
        figure.supxlabel(notes, fontsize=7.5, color="#59616d", x=0.01, ha="left")
    return figure


def training_figure(curves: TrainingCurves) -> Figure:
    """Losses and divergence by optimizer step."""
    with style():
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        single = len(curves.runs) == 1
        for place, run in enumerate(curves.runs):
            prefix = "" if single else f"{visible(run)}: "
            for axes, group, look, label, colour in (
                (left, curves.train, "-", "wrong solutions (trained)", place * 3),
                (left, curves.evaluation, "o:", "right solutions (evaluated)", place * 3 + 1),
                (right, curves.divergence, "o-", "divergence", place * 3 + 2),
            ):
                for curve in group:
                    if curve.run == run:
                        shape = look if len(curve.steps) > 1 else "o"
                        axes.plot(
                            curve.steps,
                            curve.values,
                            shape,
                            color=palette.series(colour),
                            markersize=3.5,
                            linewidth=1.5,
                            label=drawable(prefix + label),
                        )
        left.set_title("Loss" + (" (log scale)" if curves.log else ""), loc="left")
        left.set_ylabel("nats a token")
        if curves.log:
            left.set_yscale("log")
            left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            left.yaxis.set_minor_formatter(NullFormatter())
        right.set_title("Divergence: right minus wrong solutions", loc="left")
        right.axhline(0, color="#8b93a1", linewidth=0.8, linestyle="--")
        for axes in (left, right):
            axes.set_xlabel("optimizer step")
            axes.xaxis.set_major_locator(_whole_numbers())
            _legend(axes)
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
                values = [_BLANK if value is None else value for value in rows[key]]
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
            axes.xaxis.set_major_locator(_whole_numbers())
        for axes in (rate, count):
            axes.set_ylim(bottom=0)
        _legend(transfer)
    return figure


# matplotlib draws nothing where a value is no number.
_BLANK = float("nan")


def _marks(axes: Axes, heatmap: Heatmap) -> Iterator[Any]:
    """Draws a mark on each cell that colour alone would misstate, and gives their legend entries."""
    row = {layer: place for place, layer in enumerate(heatmap.layers)}

    def draw(cells: list[Cell], marker: Any, label: str, **look: Any) -> Any:
        x, y = [cell["step"] for cell in cells], [row[cell["layer"]] for cell in cells]
        return axes.scatter(x, y, s=16, marker=marker, label=label, **look)

    small = heatmap.cells.filter(pl.col("status") == "small_denominator").to_dicts()
    if small:
        # A stroke through the darker grey, which must not be told from the lighter one by shade alone.
        yield draw(small, (2, 0, -45), "difference too small", color=palette.MARK, linewidths=0.7)
    beyond = heatmap.beyond()
    white = {"facecolor": "white", "edgecolor": palette.MARK, "linewidths": 0.5}
    if above := [cell for cell in beyond if cell["cts"] > 0]:
        yield draw(above, "^", f"above +{CTS_RANGE}", **white)
    if below := [cell for cell in beyond if cell["cts"] < 0]:
        yield draw(below, "v", f"below −{CTS_RANGE}", **white)


def _token_axis(axes: Axes, heatmap: Heatmap, labelled: bool) -> None:
    axes.xaxis.set_major_locator(_whole_numbers())
    if not labelled:
        axes.set_xlabel("generation step")
        return
    tokens = heatmap.reference_tokens
    top = axes.secondary_xaxis("top")
    top.xaxis.set_major_locator(_whole_numbers(20))
    top.tick_params(labelsize=7, length=2, pad=1)
    labels = [drawable(tick_label(token)) for token in tokens.values()]
    axes.set_xticks(list(tokens), labels, rotation=90, fontsize=6, family=["DejaVu Sans Mono", "DejaVu Sans"])
    axes.tick_params(axis="x", length=2, pad=1)
    axes.set_xlabel(
        f"tokens of layer {heatmap.layers[-1]}’s own text (other layers’ may differ); generation step above",
        fontsize=8,
    )


def _title(heatmap: Heatmap, width: float) -> str:
    text = f"{heatmap.prompt_id}: {heatmap.question}" if heatmap.question else heatmap.prompt_id
    limit = int(width * 9)
    return drawable(visible(text, limit).replace("␣", " "))


def _wrapped(notes: list[str], width: float) -> str:
    return "\n".join(
        line for note in notes for line in textwrap.wrap(drawable(legible(note)), int(width * 17))
    )


def _whole_numbers(most: int = 10) -> MaxNLocator:
    return MaxNLocator(nbins=most, integer=True, steps=[1, 2, 5, 10])


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7.5)
