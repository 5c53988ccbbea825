"""Lines over layers drawn by matplotlib, for print. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from crosspatch.report import palette
from crosspatch.report.glyphs import drawable, visible
from crosspatch.report.matplotlib_style import BLANK, style, whole_numbers
from crosspatch.report.panels import Line, Panel

# Controls are told apart by their dashes as well as their colours.
_LOOKS = {"main": ("-", 1.8, 1.0), "beside": (":", 1.4, 1.0), "control": ("--", 1.1, 0.9)}


def panels_figure(panels: Sequence[Panel]) -> Figure:
    """Panels side by side, two or three in a row, intervals as bands."""
    with style():
        columns = 2 if len(panels) == 4 else min(len(panels), 3)
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(4.2 * columns, 3.9 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, panel in zip(grid, panels, strict=False):
            _draw(axes, panel)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        if line.defined:
            _draw_line(axes, line)
    for level in panel.levels:
        axes.axhline(level, color="#8b93a1", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    axes.set_title(drawable(visible(panel.title, 80).replace("␣", " ")), loc="left", fontsize=9)
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(whole_numbers())
    if panel.share:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylim(bottom=0)
    if panel.defined:
        axes.legend(fontsize=6.5, loc="best")
    else:
        axes.text(0.5, 0.5, "no cell with a CTS", ha="center", va="center", transform=axes.transAxes, fontsize=8)


def _draw_line(axes: Axes, line: Line) -> None:
    dashes, width, strength = _LOOKS[line.role]
    colour = palette.series(line.colour)
    values = [BLANK if value is None else value for value in line.values]
    name = drawable(visible(line.name, 60).replace("␣", " "))
    marker = "o" if line.role == "main" or len(line.layers) == 1 else None
    axes.plot(
        line.layers,
        values,
        linestyle=dashes,
        marker=marker,
        markersize=2.8,
        linewidth=width,
        alpha=strength,
        color=colour,
        label=name,
    )
    if line.band and line.role != "beside":
        lows, highs = ([BLANK if end is None else end for end in ends] for ends in (line.lows, line.highs))
        axes.fill_between(
            line.layers, lows, highs, color=colour, alpha=0.2 if line.role == "main" else 0.1, linewidth=0
        )
