"""The colours of all pictures, suitable for colour-blind readers and for light and dark pages."""

from __future__ import annotations

# Diverging, with cream at 0, which differs from the greys of undefined cells and from the page.
CTS_SCALE = (
    (0.0, "#1f3f77"),
    (0.17, "#3f7cb8"),
    (0.36, "#a6cde0"),
    (0.5, "#fdf3cf"),
    (0.64, "#f8b878"),
    (0.83, "#dd5a3c"),
    (1.0, "#8c1027"),
)
AGREE = "#d3d7dd"
SMALL_DENOMINATOR = "#8b93a1"
MARK = "#101418"
SERIES = ("#2f6db5", "#d9662b", "#2c9a7c", "#a8498f", "#8a7a1f", "#5a6472")


def series(place: int) -> str:
    """The colour of a series; six colours repeat."""
    return SERIES[place % len(SERIES)]
