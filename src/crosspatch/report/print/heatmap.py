"""Heatmaps drawn by matplotlib: a prompt's scores, the same as published (Figures 3 to 5), and the heads.

The published figures set CTS to 0 where it is undefined and have colours from 0 to 1; they are redrawn for comparison,
with a note. Cells are vector rectangles because some viewers blur images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from crosspatch.characters import legible
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.head_map import HeadMap
from crosspatch.report.pictures.heatmap import CTS_RANGE, Heatmap
from crosspatch.report.print.style import (
    GREY,
    LEADING,
    PAGE,
    POINT,
    SMALL,
    TEXT,
    TITLE,
    TOKEN,
    Size,
    new_figure,
    style,
    text_width,
    token_label,
    wrapped,
)
from crosspatch.statistics.patch_mode import PatchMode
from crosspatch.statistics.profile import published_cts

# The paper's mode: the block's output, corrupted into clean, at the current position of every step.
PUBLISHED = PatchMode("resid_post", "corrupt", "transient")
# The number of the figure that shows the first prompt of a domain.
FIGURES = {"related": 3, "unrelated_math": 4, "general": 5}

_COLOURS = LinearSegmentedColormap.from_list("cts", palette.CTS_SCALE)
_UPPER = LinearSegmentedColormap.from_list("published", [(2 * at - 1, c) for at, c in palette.CTS_SCALE if at >= 0.5])
_GREYS = {"agree": palette.AGREE, "small_denominator": palette.SMALL_DENOMINATOR, "unscheduled": "white"}
# The least distance between the centres of two token labels, in inches.
_PITCH = 1.1 * TOKEN * POINT
# Inches beside the axes, and above and below them without title, tokens and notes.
_BESIDE, _AROUND = 1.0, 0.75
# Inches: the least and greatest height of a row, the aim for all rows (page, column), and the most for all rows.
_ROW, _ROWS, _MOST = (0.055, 0.16), (2.4, 1.9), 4.5
_MARK: Any = {"linestyle": "", "markeredgecolor": palette.MARK}

Cells = Float[np.ndarray, "row column"]


def heatmap_figure(heatmap: Heatmap, size: Size = PAGE) -> Figure:
    """One prompt's heatmap: colours where CTS is defined, greys where it is not, white after the end of a text."""
    cells, cts = heatmap.cells, pl.col("cts")
    # Marks for cells that colour alone does not show; a stroke tells the darker grey from the lighter one.
    white = {"markerfacecolor": "white", "markeredgewidth": 0.4}
    marks: list[tuple[str, pl.DataFrame, dict[str, Any]]] = [
        ("difference too small", cells.filter(status="small_denominator"), {"marker": (2, 0, -45)}),
        (f"above +{CTS_RANGE}", cells.filter(cts > CTS_RANGE), {"marker": "^", **white}),
        (f"below −{CTS_RANGE}", cells.filter(cts < -CTS_RANGE), {"marker": "v", **white}),
    ]
    named = f"{heatmap.prompt_id}: {heatmap.question}" if heatmap.question else heatmap.prompt_id
    with style():
        figure, axes, side = _of_prompt(heatmap, size, named[:600], heatmap.notes())
        greys = {status: place for place, status in enumerate(_GREYS)}
        # Cells with a CTS are drawn over the lighter grey.
        codes = cells["status"].replace_strict(greys, default=0, return_dtype=pl.Float64)
        _mesh(axes, _grid(heatmap, codes), ListedColormap(list(_GREYS.values())), (0, len(_GREYS) - 1))
        _scale(axes, _mesh(axes, _grid(heatmap, cells["cts"]), _COLOURS, (-CTS_RANGE, CTS_RANGE)), "CTS")
        handles: list[Any] = [Patch(color=palette.AGREE, label="both models predict the same token")]
        for label, marked, look in marks:
            if marked.height:
                places = marked["step"], np.searchsorted(heatmap.layers, marked["layer"])
                axes.plot(*places, **_MARK, markersize=side, label=label, **look)
                handles.append(Line2D([], [], **_MARK, markersize=4, label=label, **look))
        _legend(axes, handles, size, above=2.2)
    return figure


def paper_heatmap_figure(heatmap: Heatmap, size: Size = PAGE) -> Figure:
    """Figure 3, 4 or 5: layers upwards, steps rightwards, CTS as it was published, colours from 0 to 1."""
    cells = published_cts(heatmap.cells)
    title = f'Corruption Transfer Per Step, Prompt: "{(heatmap.question or heatmap.prompt_id)[:600]}"'
    with style():
        figure, axes, _ = _of_prompt(heatmap, size, title, _published_notes(cells))
        _scale(axes, _mesh(axes, _grid(heatmap, cells["cts"]), _UPPER, (0, 1)), "CTS", extend="both")
    return figure


def head_map_figure(head_map: HeadMap, size: Size = PAGE) -> Figure:
    """The recovered fraction of each head; a ring marks measured heads.

    Layers go upwards in a figure for a column and rightwards in a wider one.
    """
    layers, heads, cells = head_map.layers, head_map.heads, head_map.cells
    grid = np.full((len(layers), len(heads)), np.nan)
    places = np.searchsorted(layers, cells["layer"]), np.searchsorted(heads, cells["head"])
    grid[places] = cells["recovered_fraction"]
    (up, y_label), (across, x_label) = (layers, "layer"), (heads, "head")
    if size.wide:
        up, y_label, across, x_label, grid, places = across, x_label, up, y_label, grid.T, places[::-1]
    with style():
        figure, axes, width, height = _framed(size, len(up), head_map.title, head_map.notes())
        axes.set_xlim(-0.5, len(across) - 0.5)
        _scale(axes, _mesh(axes, grid, _COLOURS, (-head_map.reach, head_map.reach)), "recovered fraction")
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xticks(*_ticks(across, width / max(text_width(f"{number}  ", SMALL) for number in across)))
        axes.set_yticks(*_ticks(up, height / (1.2 * SMALL * POINT)))
        exact = cells["exact"].to_numpy()
        if exact.any():
            look: Any = {**_MARK, "marker": "o", "markerfacecolor": "none", "markeredgewidth": 0.6, "label": "measured"}
            axes.plot(places[1][exact], places[0][exact], markersize=_side(width, height, *grid.shape), **look)
            _legend(axes, [Line2D([], [], markersize=4, **look)], size, above=0.5)
    return figure


def _framed(
    size: Size, rows: int, title: str, notes: Sequence[str], more: float = 0
) -> tuple[Figure, Axes, float, float]:
    """A figure with title and notes, its axes, and their approximate width and height in inches.

    `more` is the height in inches of the labels below the axes.
    """
    whole, (lowest, highest) = size.width - 0.1, _ROW
    head = wrapped(legible(title.replace("\n", " ")), TITLE, whole, most=3)
    foot = "\n".join(wrapped(legible(note), SMALL, whole) for note in notes)
    height = max(min(rows * min(max(_ROWS[not size.wide] / rows, lowest), highest), _MOST), 0.3)
    lines = (head.count("\n") + 1) * TITLE + (foot.count("\n") + 1) * SMALL
    figure = new_figure(size, height + _AROUND + more + lines * LEADING * POINT)
    figure.suptitle(head, x=0.005, ha="left", fontsize=TITLE, linespacing=LEADING)
    figure.supxlabel(foot, x=0.005, ha="left", fontsize=SMALL, linespacing=LEADING, color=GREY)
    return figure, figure.add_subplot(), size.width - _BESIDE, height


def _of_prompt(heatmap: Heatmap, size: Size, title: str, notes: Sequence[str]) -> tuple[Figure, Axes, float]:
    """A prompt's figure without cells, its axes, and the size in points of a mark in a cell."""
    steps, layers, tokens = heatmap.steps, heatmap.layers, heatmap.reference_tokens
    disagreeing = heatmap.cells.filter(status="ok").group_by("step").len().sort("len", "step", descending=[True, False])
    chosen = labelled_steps(list(tokens), disagreeing["step"].to_list(), (size.width - _BESIDE) / len(steps))
    labels = {step: token_label(tokens[step]) for step in chosen}
    more = max((text_width(label, TOKEN) for label in labels.values()), default=0.0)
    figure, axes, width, height = _framed(size, len(layers), title, notes, more)
    x_label = _x_label(heatmap, labels, sum(step in tokens for step in disagreeing["step"]))
    axes.set_xlabel(wrapped(x_label, TEXT, size.width - 0.1))
    axes.set(xlim=(steps[0] - 0.5, steps[-1] + 0.5), ylim=(-0.5, len(layers) - 0.5), ylabel="layer")
    axes.set_yticks(*_ticks(layers, height / (1.2 * SMALL * POINT)))
    places, numbers = _ticks(steps, width / text_width(f"{steps[-1]}  ", SMALL))
    numbered = axes.secondary_xaxis("top") if labels else axes
    numbered.set_xticks([steps[place] for place in places], numbers)
    if labels:
        axes.set_xticks(list(labels), list(labels.values()), rotation=90, fontsize=TOKEN)
        axes.annotate(
            "step", (0, 1), (-4, 4), xycoords="axes fraction", textcoords="offset points", ha="right", fontsize=SMALL
        )
    return figure, axes, _side(width, height, len(layers), len(steps))


def _grid(heatmap: Heatmap, values: pl.Series) -> Cells:
    """Values by row and step; NaN after the end of a text and where a value is missing."""
    grid = np.full((len(heatmap.layers), len(heatmap.steps)), np.nan)
    rows = np.searchsorted(heatmap.layers, heatmap.cells["layer"])
    grid[rows, heatmap.cells["step"] - heatmap.steps[0]] = values.cast(pl.Float64).fill_null(np.nan)
    return grid


def _mesh(axes: Axes, grid: Cells, colours: Colormap, ends: tuple[float, float]) -> QuadMesh:
    """Cells of width and height 1, centred on whole numbers, from the first column of the axes."""
    first = axes.get_xlim()[0]
    edges = first + np.arange(grid.shape[1] + 1), np.arange(grid.shape[0] + 1) - 0.5
    # Sharp edges in PNG; a hairline of the same colour closes the gaps that PDF viewers show.
    look: Any = {"antialiased": False, "linewidth": 0.15, "edgecolors": "face"}
    return axes.pcolormesh(*edges, np.ma.masked_invalid(grid), cmap=colours, vmin=ends[0], vmax=ends[1], **look)


def _scale(axes: Axes, cells: QuadMesh, label: str, **look: Any) -> None:
    """The colour bar."""
    bar = axes.figure.colorbar(cells, ax=axes, pad=0.01, fraction=0.02, aspect=30, **look)
    bar.set_label(label, fontsize=SMALL)


def _legend(axes: Axes, handles: Sequence[Any], size: Size, above: float) -> None:
    """The legend of the marks, `above` font sizes above the axes."""
    widest = max(text_width(str(handle.get_label()), SMALL) for handle in handles) + 4 * SMALL * POINT
    columns = max(1, min(4, int((size.width - 0.4) / widest)))
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=above, ncols=columns)


def _side(width: float, height: float, rows: int, columns: int) -> float:
    """The size of a mark in a cell, in points."""
    return min(4.0, max(1.6, 0.8 * min(width / columns, height / rows) / POINT))


def _ticks(numbers: Sequence[int], room: float) -> tuple[list[int], list[str]]:
    """Positions and labels of at most `room` ticks."""
    every = next(
        step for unit in (1, 10, 100, 1000, 10**4) for step in (unit, 2 * unit, 5 * unit) if len(numbers) / step <= room
    )
    places = list(range(0, len(numbers), every))
    return places, [str(numbers[place]) for place in places]


def labelled_steps(steps: list[int], disagreeing: list[int], pitch: float) -> list[int]:
    """The steps with a token label, at `pitch` inches a step: all steps, or as many of `disagreeing` as fit.

    Of two steps that are too close, the first one in `disagreeing` is taken.
    """
    if pitch >= _PITCH:
        return steps
    taken: list[int] = []
    for step in disagreeing:
        if step in steps and all(abs(step - other) * pitch >= _PITCH for other in taken):
            taken.append(step)
    return sorted(taken)


def _x_label(heatmap: Heatmap, labels: Mapping[int, str], disagreeing: int) -> str:
    if not labels:
        return "generation step"
    which = "tokens of"
    if len(labels) < len(heatmap.reference_tokens):
        which = f"{'tokens' if len(labels) == disagreeing else 'some tokens'} where the models disagree, of"
    return f"{which} the text of layer {heatmap.layers[-1]} (other layers may differ)"


def _published_notes(cells: pl.DataFrame) -> list[str]:
    same = int((cells["clean_token_id"] == cells["corrupted_token_id"]).sum())
    counted = f"in {same:,} of the {cells.height:,} cells both models predict the same token"
    notes = [f"As published: CTS is 0 where it is undefined, too; {counted}."]
    outside = cells.filter(~pl.col("cts").is_between(0, 1))["cts"].to_list()
    if outside:
        values = "1 value lies" if len(outside) == 1 else f"{len(outside):,} values lie"
        ends = f"from {min(outside):.2f} to {max(outside):.2f}".replace("-", "−")
        notes.append(f"{values} outside 0 to 1 ({ends}), drawn in the colour of the nearer end.")
    return notes
