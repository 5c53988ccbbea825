"""What all charts drawn by matplotlib, for print, have in common: their sizes, their type and their settings.

A figure is made as wide as it is printed, a column or a page, so that its text is as large as it says. Charts are
`Figure` objects without pyplot, so nothing global is touched and no screen is needed. All text passes through
`drawable`, and none is read as mathtext. Knows nothing of what is drawn, nor of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

# matplotlib draws nothing where a value is no number.
BLANK = float("nan")

# Pixels an inch of what is no vector drawing.
DPI = 300
# Sizes of type in points: titles, axes, legends and notes, tokens. Nothing is smaller than the last.
TITLE, TEXT, SMALL, TOKEN = 8.0, 7.0, 6.0, 5.5
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
