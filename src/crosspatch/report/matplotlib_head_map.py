"""The layer × head picture drawn by matplotlib, for print. Knows nothing of files."""

from __future__ import annotations

import textwrap

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from crosspatch.report import palette
from crosspatch.report.glyphs import drawable, legible
from crosspatch.report.head_map import HeadMap
from crosspatch.report.matplotlib_style import BLANK, style

# So many ticks of an axis can be read; with more places every second or third has one.
MOST_TICKS = 40


def head_map_figure(head_map: HeadMap) -> Figure:
    """One cell a head, coloured by its transfer, cream at 0; a ring marks those that were measured."""
    layers, heads, reach = head_map.layers, head_map.heads, head_map.reach
    width = 2.4 + max(4.6, 0.3 * len(heads))
    notes = "\n".join(_wrapped(note, width * 17) for note in head_map.notes())
    with style():
        figure = Figure(
            figsize=(width, 1.5 + 0.2 * max(4, len(layers)) + 0.15 * notes.count("\n")), layout="constrained"
        )
        axes = figure.add_subplot()
        image = axes.imshow(
            [[BLANK if transfer is None else transfer for transfer in row] for row in head_map.grid()],
            cmap=LinearSegmentedColormap.from_list("transfer", palette.CTS_SCALE),
            vmin=-reach,
            vmax=reach,
            origin="lower",
            aspect="auto",
            interpolation="none",
        )
        figure.colorbar(image, ax=axes, label="transfer", aspect=24, pad=0.01, fraction=0.05)
        exact = head_map.exact()
        if exact:
            x, y = [heads.index(head) for _, head in exact], [layers.index(layer) for layer, _ in exact]
            axes.scatter(
                x, y, s=18, marker="o", facecolor="none", edgecolor=palette.MARK, linewidths=0.8, label="measured"
            )
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderpad=0, fontsize=7.5, handlelength=1.2)
        for set_ticks, numbers in ((axes.set_xticks, heads), (axes.set_yticks, layers)):
            every = slice(None, None, 1 + (len(numbers) - 1) // MOST_TICKS)
            set_ticks(range(len(numbers))[every], [str(number) for number in numbers][every], fontsize=8)
        axes.set_xlabel("head")
        axes.set_ylabel("layer")
        axes.set_title(_wrapped(head_map.title, width * 11), loc="left", pad=16)
        figure.supxlabel(notes, fontsize=7.5, color="#59616d", x=0.01, ha="left")
    return figure


def _wrapped(text: str, width: float) -> str:
    return "\n".join(textwrap.wrap(drawable(legible(text)), int(width)))
