"""What all charts drawn by matplotlib, for print, have in common: sizes, type, settings, and text that fits.

A figure is made as wide as it is printed, a column or a page, so that its text is as large as it says. Charts are
`Figure` objects without pyplot, so nothing global is touched and no screen is needed. All text passes through
`drawable`, and none is read as mathtext. Model output may be wider than any rule of thumb says, so each character is
measured; all widths are in inches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

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
_ELLIPSIS = "…"
GREY = "#59616d"
# What is drawn across a panel to be read against.
LEVEL = "#8b93a1"


@dataclass(frozen=True)
class Size:
    """How wide a figure is printed, in inches, and what such a figure is called."""

    name: str
    width: float

    def __post_init__(self) -> None:
        if not self.name.isalpha() or not self.width > 0:
            raise ValueError(f"a size is a word and a width above 0, got {self.name!r} and {self.width!r}")

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


def whole_numbers(most: int = 10) -> MaxNLocator:
    """Ticks at whole numbers, at most so many of them."""
    return MaxNLocator(nbins=most, integer=True, steps=[1, 2, 5, 10])


def drawable(text: str) -> str:
    """Text in which matplotlib's own font has every glyph; a box stands for the others (emoji, CJK)."""
    known = _font_glyphs()
    return "".join(char if char == "\n" or ord(char) in known else "▯" for char in text)


def text_width(text: str, size: float) -> float:
    """How wide one line is at this size of type."""
    return sum(map(_advance, text)) * size * POINT


def wrapped(text: str, size: float, within: float, most: int | None = None) -> list[str]:
    """Drawable text in lines no wider than `within`, broken at blanks or where none is; `most` lines, cut said."""
    lines = [line for paragraph in drawable(text).split("\n") for line in _broken(paragraph, size, within)]
    if most is None or len(lines) <= most:
        return lines
    kept = lines[: most - 1]
    return [*kept, cut(" ".join(lines[most - 1 :]), size, within)]


def cut(text: str, size: float, within: float) -> str:
    """The beginning of a line that is too wide, with an ellipsis."""
    if text_width(text, size) <= within:
        return text
    room = within - text_width(_ELLIPSIS, size)
    return text[: _fitting(text, size, room)].rstrip() + _ELLIPSIS


def token_label(token: str, limit: int = 12) -> str:
    """A token as it stands under an axis: of so many characters at most, an ellipsis for the rest."""
    shown = ""
    for char in token[: limit + 1]:
        more = visible(char)
        if len(shown) + len(more) > limit:
            return drawable(shown) + _ELLIPSIS
        shown += more
    return drawable(shown or visible(token))


def lines_height(lines: Sequence[str], size: float) -> float:
    """How high lines of this size of type are, one below the other."""
    return len(lines) * size * LEADING * POINT


def _broken(text: str, size: float, within: float) -> list[str]:
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if text_width(longer, size) <= within:
            line = longer
            continue
        if line:
            lines.append(line)
        line = word
        while text_width(line, size) > within:
            end = max(1, _fitting(line, size, within))
            lines.append(line[:end])
            line = line[end:]
    return [*lines, line] if line or not lines else lines


def _fitting(text: str, size: float, within: float) -> int:
    """How many characters fit."""
    room, used = within / (size * POINT), 0.0
    for place, char in enumerate(text):
        used += _advance(char)
        if used > room:
            return place
    return len(text)


@cache
def _advance(char: str) -> float:
    """How far one character moves the pen, in sizes of type."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    font.set_size(100, 72)
    index = font.get_char_index(ord(char))
    return font.load_glyph(index).linearHoriAdvance / 65536 / 100


@cache
def _font_glyphs() -> frozenset[int]:
    # DejaVu Sans comes with matplotlib, so the figures look the same everywhere.
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())
