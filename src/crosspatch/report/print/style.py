"""Sizes, fonts, matplotlib settings and text fitting shared by all figures for print.

A figure has its printed width, so font sizes are true; matplotlib's constrained layout places its parts. Figures are
`Figure` objects without pyplot, so no global state changes and no display is needed. All text passes through `drawable`
and is never parsed as mathtext. Widths are in inches.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine

from crosspatch.characters import visible

# matplotlib leaves a gap at NaN.
BLANK = float("nan")
# Pixels per inch of PNG files.
DPI = 300
# Font sizes in points: titles, axes, legends and notes, tokens. No text is smaller than the last.
TITLE, TEXT, SMALL, TOKEN = 8.0, 7.0, 6.0, 5.5
POINT = 1 / 72
# Line spacing, in font sizes.
LEADING = 1.25
GREY = "#59616d"
# The colour of horizontal lines at fixed values.
LEVEL = "#8b93a1"


@dataclass(frozen=True)
class Size:
    """The printed width of a figure in inches, and its word in file names."""

    name: str
    width: float

    @property
    def wide(self) -> bool:
        """Whether panels fit side by side."""
        return self.width > 5


# A paper of two columns on letter or A4 paper.
COLUMN, PAGE = Size("column", 3.3), Size("page", 6.9)
SIZES = (COLUMN, PAGE)

_STYLE: Any = {
    "text.usetex": False,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    # One font: each PDF embeds every font it uses, which takes longer than drawing.
    "font.family": ["DejaVu Sans"],
    "font.size": TEXT,
    "axes.titlesize": TITLE,
    "axes.labelsize": TEXT,
    "axes.labelpad": 2.5,
    "axes.titlepad": 5,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": False,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.handlelength": 1.8,
    "legend.handletextpad": 0.5,
    "legend.labelspacing": 0.3,
    "legend.columnspacing": 1.2,
    "legend.borderpad": 0.2,
    "lines.markersize": 2.4,
    "lines.linewidth": 1.1,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    # TrueType: many journals refuse Type 3 fonts.
    "pdf.fonttype": 42,
}


@contextmanager
def style() -> Iterator[None]:
    """Use our matplotlib settings while a figure is made or saved, then restore the user's."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(size: Size, height: float) -> Figure:
    """An empty figure, laid out by matplotlib."""
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, hspace=0.02, wspace=0.03)
    return Figure(figsize=(size.width, height), layout=layout)


def drawable(text: str) -> str:
    """Text with a box in place of glyphs that matplotlib's font lacks (emoji, CJK)."""
    known = _font_glyphs()
    return "".join(char if char == "\n" or ord(char) in known else "▯" for char in text)


def text_width(text: str, size: float) -> float:
    """The width of one line of drawable text at a font size."""
    font = get_font(findfont("DejaVu Sans"))
    font.set_size(size, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64 * POINT


def wrapped(text: str, size: float, within: float, most: int | None = None) -> str:
    """Drawable text in lines no wider than `within`; an ellipsis replaces lines after `most`."""
    text = drawable(text)
    # Characters differ in width, so we try line lengths, the longest first (characters half a font size wide).
    for columns in range(max(1, int(within / (size * POINT * 0.5))), 0, -1):
        lines = textwrap.wrap(text, columns, max_lines=most, placeholder="…", break_on_hyphens=False)
        if all(text_width(line, size) <= within for line in lines):
            break
    return "\n".join(lines)


def token_label(token: str, limit: int = 12) -> str:
    """A token as a label of an axis, cut at `limit` characters with an ellipsis."""
    shown = ""
    for char in token[: limit + 1]:
        more = visible(char)
        if len(shown) + len(more) > limit:
            return drawable(shown) + "…"
        shown += more
    return drawable(shown or visible(token))


@cache
def _font_glyphs() -> frozenset[int]:
    # matplotlib ships DejaVu Sans, so figures look the same everywhere.
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
