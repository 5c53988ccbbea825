"""The heatmap drawn by matplotlib, for print. Knows nothing of files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from crosspatch.report import palette
from crosspatch.report.glyphs import drawable, legible, tick_label, visible
from crosspatch.report.heatmap import CTS_RANGE, LABELLED_STEPS, Cell, Heatmap
from crosspatch.report.matplotlib_style import BLANK, style, whole_numbers


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
            [[greys.get(cell["status"], BLANK) if cell else BLANK for cell in row] for row in grid],
            cmap=ListedColormap([palette.AGREE, palette.SMALL_DENOMINATOR]),
            vmin=0,
            vmax=1,
            **common,
        )
        image = axes.imshow(
            [[cell["cts"] if cell and cell["cts"] is not None else BLANK for cell in row] for row in grid],
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
    axes.xaxis.set_major_locator(whole_numbers())
    if not labelled:
        axes.set_xlabel("generation step")
        return
    tokens = heatmap.reference_tokens
    top = axes.secondary_xaxis("top")
    top.xaxis.set_major_locator(whole_numbers(20))
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
    return "\n".join(line for note in notes for line in textwrap.wrap(drawable(legible(note)), int(width * 17)))
