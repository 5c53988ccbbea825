"""The layer × head picture drawn by matplotlib, for print. Knows nothing of files."""

from __future__ import annotations

from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from crosspatch.report.pictures import palette
from crosspatch.report.pictures.head_map import HeadMap
from crosspatch.report.print.grid import Scale, Sheet, draw_cells, number_ticks
from crosspatch.report.print.style import PAGE, Size, style
from crosspatch.report.print.text import POINT

_COLOURS = LinearSegmentedColormap.from_list("transfer", palette.CTS_SCALE)
_RING: Any = {
    "linestyle": "",
    "marker": "o",
    "markerfacecolor": "none",
    "markeredgecolor": palette.MARK,
    "markeredgewidth": 0.6,
    "label": "measured",
}


def head_map_figure(head_map: HeadMap, size: Size = PAGE) -> Figure:
    """One cell a head, coloured by its transfer, cream at 0; a ring marks those that were measured.

    Layers go upwards in a column, rightwards on a page, where they have more room.
    """
    layers, heads = head_map.layers, head_map.heads
    scale = Scale("transfer", _COLOURS, -head_map.reach, head_map.reach)
    across, up, names = (layers, heads, ("layer", "head")) if size.wide else (heads, layers, ("head", "layer"))

    def place(layer: int, head: int) -> tuple[int, int]:
        return (layers.index(layer), heads.index(head)) if size.wide else (heads.index(head), layers.index(layer))

    exact = [place(*found) for found in head_map.exact()]
    with style():
        ring = Line2D([], [], markersize=4, **_RING)
        legend = [ring] if exact else []
        sheet = Sheet(size, len(up), head_map.title, head_map.notes(), *names, legend=legend)
        figure, axes = sheet.draw(scale)
        width, height = sheet.frame
        places = [place(*found) for found in head_map.cells.select("layer", "head").iter_rows()]
        draw_cells(axes, places, head_map.cells["transfer"].to_list(), scale)
        axes.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5))
        axes.set_xticks(*number_ticks(across, width, upright=False))
        axes.set_yticks(*number_ticks(up, height, upright=True))
        if exact:
            cell = min(width / len(across), height / len(up)) / POINT
            axes.plot(*zip(*exact, strict=True), markersize=min(4.0, max(1.6, 0.7 * cell)), **_RING)
    return figure
