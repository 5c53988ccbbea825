"""Panels of lines drawn by matplotlib, side by side in a wide figure, stacked in one for a column."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from crosspatch.characters import visible
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.panels import Line, Panel, Role
from crosspatch.report.print.style import (
    BLANK,
    LEVEL,
    PAGE,
    POINT,
    SMALL,
    TITLE,
    Size,
    drawable,
    new_figure,
    style,
    text_width,
    wrapped,
)

# Dashes, marker, width and opacity. Controls differ in their dashes as well as their colours.
_LOOKS: dict[Role, tuple[str, str | None, float, float]] = {
    "main": ("-", "o", 1.2, 1.0),
    "dense": ("-", None, 1.1, 1.0),
    "beside": (":", None, 1.0, 1.0),
    "held out": (":", "o", 1.1, 1.0),
    "control": ("--", None, 0.8, 0.9),
}


def panels_figure(panels: Sequence[Panel], size: Size = PAGE) -> Figure:
    """Panels with intervals as bands. One legend below serves most panels; other panels have their own."""
    columns = min(2 if len(panels) == 4 else 3, len(panels)) if size.wide else 1
    rows = -(-len(panels) // columns)
    with style():
        # The last term is the height of the legend.
        figure = new_figure(size, (1.75 if size.wide else 1.35) * rows + 0.45)
        grid = figure.subplots(rows, columns, squeeze=False, sharex="none" if size.wide else "all").flatten()
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(grid, panels, strict=False):
            _draw(axes, panel, size.width / columns)
            if not size.wide:
                axes.label_outer()
        named = [
            frozenset((line.name, line.role, line.colour) for line in p.lines if line.defined and p.legend)
            for p in panels
        ]
        # The legend below belongs to the panel whose lines include all lines of the most panels.
        most = max(
            named, key=lambda lines: (bool(lines) and sum(bool(own) and own <= lines for own in named), len(lines))
        )
        if most:
            _legend_below(figure, size, grid[named.index(most)])
        for axes, own in zip(grid, named, strict=False):
            if not own <= most:
                axes.legend(loc="best")
    return figure


def _legend_below(figure: Figure, size: Size, axes: Axes) -> None:
    """A panel's legend, below all panels."""
    handles, labels = axes.get_legend_handles_labels()
    # The width of the line before a label and the space after it.
    beside = 4 * SMALL * POINT
    labels = [wrapped(label, SMALL, size.width - beside, most=1) for label in labels]
    columns = max(1, int(size.width / (max(text_width(label, SMALL) for label in labels) + beside)))
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def _draw(axes: Axes, panel: Panel, width: float) -> None:
    for line in panel.lines:
        if line.defined:
            _draw_line(axes, line)
    for level in panel.levels:
        axes.axhline(level, color=LEVEL, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)
    title = visible(panel.title, 80).replace("␣", " ")
    axes.set_title(wrapped(title, TITLE, width - 0.45, most=2), loc="left")
    axes.set(xlabel=panel.axis, ylabel=panel.unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
    if panel.share:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylim(bottom=0)
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if not panel.defined:
        axes.set_xlim(panel.reach)
        axes.text(0.5, 0.5, panel.missing, ha="center", va="center", transform=axes.transAxes)


def _draw_line(axes: Axes, line: Line) -> None:
    dashes, marker, width, strength = _LOOKS[line.role]
    colour = palette.series(line.colour)
    values, lows, highs = (
        [BLANK if value is None else value for value in part] for part in (line.values, line.lows, line.highs)
    )
    axes.plot(
        line.x,
        values,
        linestyle=dashes,
        marker="o" if len(line.x) == 1 else marker,
        linewidth=width,
        alpha=strength,
        color=colour,
        label=drawable(visible(line.name, 80).replace("␣", " ")),
    )
    if line.band and line.role != "beside":
        axes.fill_between(line.x, lows, highs, color=colour, alpha=0.2 if line.role == "main" else 0.1, linewidth=0)
