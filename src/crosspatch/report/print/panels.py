"""Lines drawn by matplotlib, for print: panels beside one another on a page, below one another in a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

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
    cut,
    drawable,
    style,
    text_width,
    whole_numbers,
    wrapped,
)

# Dashes, marker, width and opacity. Controls are told apart by their dashes as well as their colours.
_LOOKS: dict[Role, tuple[str, str | None, float, float]] = {
    "main": ("-", "o", 1.2, 1.0),
    "dense": ("-", None, 1.1, 1.0),
    "beside": (":", None, 1.0, 1.0),
    "held out": (":", "o", 1.1, 1.0),
    "control": ("--", None, 0.8, 0.9),
}


def panels_figure(panels: Sequence[Panel], size: Size = PAGE) -> Figure:
    """Panels with intervals as bands. The legend of most of them stands below, that of others in the panel."""
    with style():
        columns = 2 if len(panels) in (2, 4) else 3
        figure, grid = _frames(size, len(panels), columns, height=1.75 if size.wide else 1.35)
        by_lines: dict[frozenset[Any], list[Axes]] = {}
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel, size.width / min(columns, len(grid)) if size.wide else size.width)
            if panel.defined and panel.legend:
                lines = frozenset((line.name, line.role, line.colour) for line in panel.lines if line.defined)
                by_lines.setdefault(lines, []).append(axes)
            if not size.wide:
                axes.label_outer()
        # One legend for as many panels as it can speak for: those that have no line beside its own.
        told = {whole: [a for some, drawn in by_lines.items() if some <= whole for a in drawn] for whole in by_lines}
        most = max(told, key=lambda whole: (len(told[whole]), len(whole)), default=frozenset())
        for lines, drawn in by_lines.items():
            if lines == most:
                colours = len({colour for _, _, colour in lines})
                _legend_below(figure, size, drawn[0], together=len(lines) // colours if colours > 1 else 1)
            elif not lines <= most:
                for axes in drawn:
                    axes.legend(loc="best")
    return figure


def _frames(size: Size, count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """So many panels of so many inches in height: in rows on a page, one below the other in a column."""
    columns = min(columns, count) if size.wide else 1
    rows = -(-count // columns)
    # What stands round the panels has its place beside their height: a legend below, with a few rows.
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, hspace=0.02, wspace=0.03)
    figure = Figure(figsize=(size.width, height * rows + 0.45), layout=layout)
    grid = figure.subplots(rows, columns, squeeze=False, sharex="none" if size.wide else "all").flatten()
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, list(grid[:count])


def _legend_below(figure: Figure, size: Size, axes: Axes, *, together: int) -> None:
    """What the lines of a panel are, below all panels; so many that belong together stand one below the other."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    # The line before the text and the blank behind it, in sizes of type.
    beside = 4 * SMALL * POINT
    labels = [cut(label, SMALL, size.width - beside) for label in labels]
    fitting = max(1, int(size.width / (max(text_width(label, SMALL) for label in labels) + beside)))
    columns = next(
        columns
        for columns in range(min(fitting, len(labels)), 0, -1)
        if columns == 1 or -(-len(labels) // columns) % together == 0
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _draw(axes: Axes, panel: Panel, width: float) -> None:
    for line in panel.lines:
        if line.defined:
            _draw_line(axes, line)
    for level in panel.levels:
        axes.axhline(level, color=LEVEL, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)
    title = visible(panel.title, 80).replace("␣", " ")
    axes.set_title("\n".join(wrapped(title, TITLE, width - 0.45, most=2)), loc="left")
    axes.set_xlabel(panel.axis)
    axes.set_ylabel(panel.unit)
    axes.xaxis.set_major_locator(whole_numbers())
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
    values = [BLANK if value is None else value for value in line.values]
    name = drawable(visible(line.name, 80).replace("␣", " "))
    axes.plot(
        line.x,
        values,
        linestyle=dashes,
        marker="o" if len(line.x) == 1 else marker,
        linewidth=width,
        alpha=strength,
        color=colour,
        label=name,
    )
    if line.band and line.role != "beside":
        lows, highs = ([BLANK if end is None else end for end in ends] for ends in (line.lows, line.highs))
        axes.fill_between(line.x, lows, highs, color=colour, alpha=0.2 if line.role == "main" else 0.1, linewidth=0)
