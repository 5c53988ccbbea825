"""What all charts drawn by matplotlib, for print, have in common: sizes, type, settings, and text that fits.

A figure is as wide as it is printed, a column or a page, so its text has the size that it states; matplotlib's
constrained layout places what stands on it. Charts are `Figure` objects without pyplot: nothing global changes and no
screen is needed. All text passes through `drawable`, and matplotlib reads none of it as mathtext. Widths are in inches.
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

# matplotlib draws nothing where a value is no number.
BLANK = float("nan")
# Pixels an inch of what is no vector drawing.
DPI = 300
# Sizes of type in points: titles, axes, legends and notes, tokens. Nothing is smaller than the last.
TITLE, TEXT, SMALL, TOKEN = 8.0, 7.0, 6.0, 5.5
POINT = 1 / 72
# From one line to the next, in sizes of type.
LEADING = 1.25
GREY = "#59616d"
# The lines across a panel that mark fixed values.
LEVEL = "#8b93a1"


@dataclass(frozen=True)
class Size:
    """How wide a figure is printed, in inches, and the word for such figures in file names."""

    name: str
    width: float

    @property
    def wide(self) -> bool:
        """Whether panels have room beside one another."""
        return self.width > 5


# A paper of two columns on letter or A4 paper.
COLUMN, PAGE = Size("column", 3.3), Size("page", 6.9)
SIZES = (COLUMN, PAGE)

_STYLE: Any = {
    "text.usetex": False,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    # One font in one weight: each more is embedded in each PDF anew, which takes longer than the drawing.
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
    # TrueType: Type 3 fonts are refused by many journals, and their text cannot be edited.
    "pdf.fonttype": 42,
}


@contextmanager
def style() -> Iterator[None]:
    """Our settings while a figure is made or saved; the user's own come back afterwards."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(size: Size, height: float) -> Figure:
    """An empty figure, laid out by matplotlib."""
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, hspace=0.02, wspace=0.03)
    return Figure(figsize=(size.width, height), layout=layout)


def drawable(text: str) -> str:
    """Text in which matplotlib's own font has every glyph; a box stands for the others (emoji, CJK)."""
    known = _font_glyphs()
    return "".join(char if char == "\n" or ord(char) in known else "▯" for char in text)


def text_width(text: str, size: float) -> float:
    """How wide one line of drawable text is at this size of type."""
    font = get_font(findfont("DejaVu Sans"))
    font.set_size(size, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64 * POINT


def wrapped(text: str, size: float, within: float, most: int | None = None) -> str:
    """Drawable text in lines no wider than `within`; of more than `most` lines the rest becomes an ellipsis."""
    text = drawable(text)
    # Characters differ in width, so the count that fits is found by trying; half of the size of type is narrow.
    for columns in range(max(1, int(within / (size * POINT * 0.5))), 0, -1):
        lines = textwrap.wrap(text, columns, max_lines=most, placeholder="…", break_on_hyphens=False)
        if all(text_width(line, size) <= within for line in lines):
            break
    return "\n".join(lines)


def token_label(token: str, limit: int = 12) -> str:
    """A token as it stands under an axis: of so many characters at most, an ellipsis for the rest."""
    shown = ""
    for char in token[: limit + 1]:
        more = visible(char)
        if len(shown) + len(more) > limit:
            return drawable(shown) + "…"
        shown += more
    return drawable(shown or visible(token))


@cache
def _font_glyphs() -> frozenset[int]:
    # DejaVu Sans comes with matplotlib, so the figures look the same everywhere.
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
