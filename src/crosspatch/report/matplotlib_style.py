"""What all charts drawn by matplotlib, for print, have in common.

Charts are `Figure` objects without pyplot, so nothing global is touched and no screen is needed. All text
passes through `drawable`, and none is read as mathtext. Knows nothing of what is drawn, nor of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

# matplotlib draws nothing where a value is no number.
BLANK = float("nan")
_STYLE: Any = {
    "text.usetex": False,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#59616d",
    "axes.grid": False,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
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
