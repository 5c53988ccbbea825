"""Cells drawn by matplotlib, for print: a prompt's heatmap, ours and as in the paper's Figures 3 to 5, and the heads.

As published, CTS is 0 wherever it is undefined and the colours go from 0 to 1: those figures serve comparison, and say
so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from crosspatch.report.pictures import palette
from crosspatch.report.pictures.head_map import HeadMap
from crosspatch.report.pictures.heatmap import CTS_RANGE, Heatmap
from crosspatch.report.print.grid import NUMBERS, Scale, Sheet, draw_bars, draw_cells, draw_tokens, number_ticks
from crosspatch.report.print.style import PAGE, POINT, TOKEN, Size, style, text_width, token_label
from crosspatch.statistics.patch_mode import PatchMode
from crosspatch.statistics.profile import published_cts

_COLOURS = LinearSegmentedColormap.from_list("cts", palette.CTS_SCALE)
_SCALE = Scale("CTS", _COLOURS, -CTS_RANGE, CTS_RANGE, (6, 2))
# From the middle of a token to that of the next one, in inches, for both to be read.
_PITCH = 1.1 * TOKEN * POINT
# The tick of a token and the room round its text.
_TICK = 0.1
_WHITE = {"markerfacecolor": "white", "markeredgecolor": palette.MARK, "markeredgewidth": 0.4}
_SMALL = {"color": palette.MARK, "markeredgewidth": 0.6}

_RING: Any = {
    "linestyle": "",
    "marker": "o",
    "markerfacecolor": "none",
    "markeredgecolor": palette.MARK,
    "markeredgewidth": 0.6,
    "label": "measured",
}
# What the paper patches: the block's output, corrupted into clean, at the newest position of every step.
PUBLISHED = PatchMode("resid_post", "corrupt", "transient")
# The number of the figure that shows the first prompt of a domain.
FIGURES = {"related": 3, "unrelated_math": 4, "general": 5}

_UPPER = LinearSegmentedColormap.from_list("published", [(2 * at - 1, c) for at, c in palette.CTS_SCALE if at >= 0.5])
_PUBLISHED_SCALE = Scale("CTS", _UPPER, 0.0, 1.0, clipped=True)


def heatmap_figure(heatmap: Heatmap, size: Size = PAGE) -> Figure:
    """One prompt's heatmap: colour where CTS is defined, greys where it is not, white beyond its text."""
    marks = list(_marks(heatmap))
    same = Patch(color=palette.AGREE, label="both models want the same token")
    handles = [
        same,
        *(
            Line2D([], [], linestyle="", marker=marker, markersize=4, label=label, **look)
            for marker, label, _, look in marks
        ),
    ]
    named = f"{heatmap.prompt_id}: {heatmap.question}" if heatmap.question else heatmap.prompt_id
    with style():
        figure, axes, cell = _grid_figure(heatmap, size, named[:600], heatmap.notes(), _SCALE, handles)
        row = {layer: place for place, layer in enumerate(heatmap.layers)}
        draw_bars(axes, _reached(heatmap), palette.AGREE)
        for status, colour in (("unscheduled", "white"), ("small_denominator", palette.SMALL_DENOMINATOR)):
            of_status = heatmap.cells.filter(status=status).select("step", "layer").iter_rows()
            draw_bars(axes, ((step - 0.5, row[at] - 0.5, 1, 1) for step, at in of_status), colour)
        defined = heatmap.cells.filter(status="ok")
        places = [(step, row[at]) for step, at in defined.select("step", "layer").iter_rows()]
        draw_cells(axes, places, defined["cts"].to_list(), _SCALE)
        for marker, label, cells, look in marks:
            x, y = cells["step"].to_list(), [row[at] for at in cells["layer"]]
            axes.plot(x, y, linestyle="", marker=marker, markersize=min(4.0, max(1.6, 0.8 * cell)), label=label, **look)
    return figure


def paper_heatmap_figure(heatmap: Heatmap, size: Size = PAGE) -> Figure:
    """Figure 3, 4 or 5: layers upwards, steps rightwards, CTS as it was published, colours from 0 to 1."""
    cells = published_cts(heatmap.cells)
    title = f'Corruption Transfer Per Step, Prompt: "{(heatmap.question or heatmap.prompt_id)[:600]}"'
    row = {layer: place for place, layer in enumerate(heatmap.layers)}
    with style():
        figure, axes, _ = _grid_figure(heatmap, size, title, _published_notes(cells), _PUBLISHED_SCALE, [])
        draw_bars(axes, _reached(heatmap), palette.CTS_SCALE[3][1])
        defined = cells.filter(pl.col("cts") != 0)
        places = [(step, row[layer]) for step, layer in defined.select("step", "layer").iter_rows()]
        draw_cells(axes, places, defined["cts"].to_list(), _PUBLISHED_SCALE)
    return figure


def head_map_figure(head_map: HeadMap, size: Size = PAGE) -> Figure:
    """One cell a head, coloured by its transfer, cream at 0; a ring marks those that were measured.

    Layers go upwards in a column, rightwards on a page, where they have more room.
    """
    layers, heads = head_map.layers, head_map.heads
    scale = Scale("recovered fraction", _COLOURS, -head_map.reach, head_map.reach)
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
        draw_cells(axes, places, head_map.cells["recovered_fraction"].to_list(), scale)
        axes.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5))
        axes.set_xticks(*number_ticks(across, width, upright=False))
        axes.set_yticks(*number_ticks(up, height, upright=True))
        if exact:
            cell = min(width / len(across), height / len(up)) / POINT
            axes.plot(*zip(*exact, strict=True), markersize=min(4.0, max(1.6, 0.7 * cell)), **_RING)
    return figure


def _grid_figure(
    heatmap: Heatmap, size: Size, title: str, notes: list[str], scale: Scale, legend: list[Any]
) -> tuple[Figure, Axes, float]:
    """All of a heatmap's figure but the cells; the axes for these, and the lesser side of a cell in points."""
    steps, layers, tokens = heatmap.steps, heatmap.layers, heatmap.reference_tokens
    sheet = Sheet(size, len(layers), title, notes, "", "layer")
    width, height = sheet.frame
    disagreeing = heatmap.cells.filter(status="ok").group_by("step").len().sort("len", "step", descending=[True, False])
    chosen = labelled_steps(list(tokens), disagreeing["step"].to_list(), width / len(steps))
    labels = {step: token_label(tokens[step]) for step in chosen}
    sheet = Sheet(
        size,
        len(layers),
        title,
        notes,
        _x_label(heatmap, len(labels), sum(step in tokens for step in disagreeing["step"])),
        "layer",
        below=max(text_width(label, TOKEN) for label in labels.values()) + _TICK if labels else NUMBERS,
        above="step" if labels else "",
        legend=legend,
    )
    figure, axes = sheet.draw(scale)
    axes.set(xlim=(steps[0] - 0.5, steps[-1] + 0.5), ylim=(-0.5, len(layers) - 0.5))
    axes.set_yticks(*number_ticks(layers, height, upright=True))
    places, numbers = number_ticks(steps, width, upright=False)
    axes.set_xticks([steps[place] for place in places], numbers)
    if labels:
        draw_tokens(axes, labels)
        axes.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False)
    return figure, axes, min(width / len(steps), height / len(layers)) / POINT


def labelled_steps(steps: list[int], disagreeing: list[int], pitch: float) -> list[int]:
    """The steps whose tokens can be read at so many inches a step: all, or disagreeing ones as far as there is room.

    Of two that lie too close the one that comes first in `disagreeing` is taken.
    """
    if pitch >= _PITCH:
        return steps
    taken: list[int] = []
    for step in disagreeing:
        if step in steps and all(abs(step - other) * pitch >= _PITCH for other in taken):
            taken.append(step)
    return sorted(taken)


def _x_label(heatmap: Heatmap, labels: int, disagreeing: int) -> str:
    if not labels:
        return "generation step"
    which = "tokens of"
    if labels < len(heatmap.reference_tokens):
        some = "tokens" if labels == disagreeing else "some tokens"
        which = f"{some} where the models disagree, of"
    return f"{which} the text of layer {heatmap.layers[-1]} (other layers may differ)"


def _reached(heatmap: Heatmap) -> Iterator[tuple[float, float, float, float]]:
    """A bar for each layer, as long as its text."""
    ends = heatmap.cells.group_by("layer").agg(first=pl.col("step").min(), last=pl.col("step").max()).sort("layer")
    for place, (_, first, last) in enumerate(ends.iter_rows()):
        yield first - 0.5, place - 0.5, last - first + 1, 1


def _marks(heatmap: Heatmap) -> Iterator[tuple[Any, str, pl.DataFrame, dict[str, Any]]]:
    """Marker, label, cells and look of what colour alone would misstate."""
    # A stroke through the darker grey, which must not be told from the lighter one by shade alone.
    small = (2, 0, -45), "difference too small", heatmap.cells.filter(status="small_denominator"), _SMALL
    above = "^", f"above +{CTS_RANGE}", heatmap.cells.filter(pl.col("cts") > CTS_RANGE), _WHITE
    below = "v", f"below −{CTS_RANGE}", heatmap.cells.filter(pl.col("cts") < -CTS_RANGE), _WHITE
    yield from (mark for mark in (small, above, below) if mark[2].height)


def _published_notes(cells: pl.DataFrame) -> list[str]:
    same = int((cells["clean_token_id"] == cells["corrupted_token_id"]).sum())
    counted = f"in {same:,} of the {cells.height:,} cells both models want the same token"
    notes = [f"As published: 0 stands where CTS is undefined, too; {counted}."]
    outside = cells.filter(~pl.col("cts").is_between(0, 1))["cts"].to_list()
    if outside:
        values = "1 value lies" if len(outside) == 1 else f"{len(outside):,} values lie"
        ends = f"from {min(outside):.2f} to {max(outside):.2f}".replace("-", "−")
        notes.append(f"{values} outside 0 to 1 ({ends}), drawn in the colour of the nearer end.")
    return notes
