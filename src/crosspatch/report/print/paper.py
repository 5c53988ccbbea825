"""The paper's own figures in its own arrangement: Figure 2, and the heatmaps 3 to 5, which count as it counts.

There CTS is 0 wherever it is undefined, and the colours go from 0 to 1; so these figures serve comparison, and say so.
Knows nothing of files.
"""

from __future__ import annotations

import polars as pl
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from crosspatch.report.pictures import palette
from crosspatch.report.pictures.curves import TrainingCurves
from crosspatch.report.pictures.heatmap import Heatmap
from crosspatch.report.print.curves import search_figure
from crosspatch.report.print.grid import Scale, draw_bars, draw_cells
from crosspatch.report.print.heatmap import grid_figure, reached
from crosspatch.report.print.style import PAGE, Size, style
from crosspatch.statistics.profile import published_cts
from crosspatch.statistics.variant import Variant

# What the paper patches: the block's output, corrupted into clean, at the newest position of every step.
PUBLISHED = Variant("resid_post", "corrupt", "transient")
# The number of the figure that shows the first prompt of a domain.
FIGURES = {"related": 3, "unrelated_math": 4, "general": 5}

_UPPER = LinearSegmentedColormap.from_list("cts", [(2 * at - 1, c) for at, c in palette.CTS_SCALE if at >= 0.5])
_SCALE = Scale("CTS", _UPPER, 0.0, 1.0, clipped=True)


def paper_search_figure(curves: TrainingCurves, size: Size = PAGE) -> Figure:
    """Figure 2: training loss and validation loss, a line a variant."""
    return search_figure(curves, size, ("Training loss", "Validation loss"))


def paper_heatmap_figure(heatmap: Heatmap, size: Size = PAGE) -> Figure:
    """Figure 3, 4 or 5: layers upwards, steps rightwards, CTS as it was published, colours from 0 to 1."""
    cells = published_cts(heatmap.cells)
    title = f'Corruption Transfer Per Step, Prompt: "{(heatmap.question or heatmap.prompt_id)[:600]}"'
    row = {layer: place for place, layer in enumerate(heatmap.layers)}
    with style():
        figure, axes, _ = grid_figure(heatmap, size, title, _notes(cells), _SCALE, [])
        draw_bars(axes, reached(heatmap), palette.CTS_SCALE[3][1])
        defined = cells.filter(pl.col("cts") != 0)
        places = [(step, row[layer]) for step, layer in defined.select("step", "layer").iter_rows()]
        draw_cells(axes, places, defined["cts"].to_list(), _SCALE)
    return figure


def _notes(cells: pl.DataFrame) -> list[str]:
    same = int((cells["clean_token_id"] == cells["corrupted_token_id"]).sum())
    counted = f"in {same:,} of the {cells.height:,} cells both models want the same token"
    notes = [f"As published: 0 stands where CTS is undefined, too; {counted}."]
    outside = cells.filter(~pl.col("cts").is_between(0, 1))["cts"].to_list()
    if outside:
        values = "1 value lies" if len(outside) == 1 else f"{len(outside):,} values lie"
        ends = f"from {min(outside):.2f} to {max(outside):.2f}".replace("-", "−")
        notes.append(f"{values} outside 0 to 1 ({ends}), drawn in the colour of the nearer end.")
    return notes
