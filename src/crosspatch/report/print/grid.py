"""A grid of coloured cells, and the sheet round it: title, legend, frame, colour scale, notes.

Cells are vector rectangles, since some viewers blur images however they are marked. The sheet is laid out in inches by
what stands on it: text never shrinks with the figure, all frames of one size are equally wide, and no layout has to be
tried out, which would take most of the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.markers import TICKDOWN
from matplotlib.transforms import ScaledTranslation

from crosspatch.characters import legible
from crosspatch.report.print.style import (
    GREY,
    LEADING,
    POINT,
    SMALL,
    TEXT,
    TITLE,
    TOKEN,
    Size,
    lines_height,
    text_width,
    wrapped,
)

# Inches beside the frame: for the row labels, and for the scale with its numbers.
_LEFT, _RIGHT = 0.36, 0.48
_EDGE, _GAP, _BAR, _TIP = 0.03, 0.06, 0.08, 0.05
# A row of numbers above the frame or below it, with its ticks.
NUMBERS = 0.14
# A row is no lower and no higher than this; between the two, all rows together are 2.4 inches high, or 1.9.
_ROW, _ROWS, _MOST = (0.055, 0.16), (2.4, 1.9), 4.5

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scale:
    """The colours of values from `low` to `high`; `clipped` says that values beyond take the colour of the end.

    `parts` are how many numbers it may be divided into, the most that have room are taken.
    """

    label: str
    colours: Colormap
    low: float
    high: float
    parts: Sequence[int] = (4, 2)
    clipped: bool = False


@dataclass(frozen=True)
class Sheet:
    """What stands round a grid of so many `rows`; `below` are the inches that labels right under the frame take.

    `above` names the numbers that stand above the frame, if any do.
    """

    size: Size
    rows: int
    title: str
    notes: Sequence[str]
    x_label: str
    y_label: str
    below: float = NUMBERS
    above: str = ""
    legend: Sequence[Any] = ()

    @property
    def frame(self) -> tuple[float, float]:
        """Width and height of the frame, in inches."""
        lowest, highest = _ROW
        row = min(max(_ROWS[not self.size.wide] / self.rows, lowest), highest)
        return self.size.width - _LEFT - _RIGHT, max(min(row * self.rows, _MOST), 0.3)

    def draw(self, scale: Scale) -> tuple[Figure, Axes]:
        """A figure with all but the cells, and the axes that these belong on."""
        whole = self.size.width - 2 * _EDGE
        title = wrapped(legible(self.title.replace("\n", " ")), TITLE, whole, most=3)
        notes = [line for note in self.notes for line in wrapped(legible(note), SMALL, whole)]
        x_label = wrapped(self.x_label, TEXT, whole)
        entries = [text_width(str(handle.get_label()), SMALL) + 3 * SMALL * POINT for handle in self.legend]
        columns = min(4, max(1, int((whole - _LEFT) / max(entries, default=whole))))
        width, height = self.frame
        parts = {
            "title": lines_height(title, TITLE) + _GAP,
            "legend": -(-len(entries) // columns) * 1.5 * SMALL * POINT,
            "above": NUMBERS if self.above else TEXT * POINT + _TIP,
            "frame": height,
            "below": self.below,
            "x_label": lines_height(x_label, TEXT) + _GAP,
            "notes": lines_height(notes, SMALL) + _EDGE,
        }
        total = sum(parts.values()) + _EDGE
        tops, at = {}, total - _EDGE
        for name, part in parts.items():
            tops[name] = at / total
            at -= part
        figure = Figure(figsize=(self.size.width, total))
        edge, left, right = (inches / self.size.width for inches in (_EDGE, _LEFT, _LEFT + width))
        bottom, high = tops["below"], height / total
        axes = figure.add_axes((left, bottom, right - left, high))
        bar = (right + _GAP / self.size.width, bottom, _BAR / self.size.width, high)
        _draw_scale(figure.add_axes(bar), scale, height)

        def write(x: float, y: float, lines: Sequence[str], size: float, **look: Any) -> None:
            figure.text(x, y, "\n".join(lines), **{"fontsize": size, "va": "top", "linespacing": LEADING, **look})

        write(edge, tops["title"], title, TITLE)
        write((left + right) / 2, tops["x_label"], x_label, TEXT, ha="center")
        write(edge, bottom + high / 2, [self.y_label], TEXT, va="center", rotation=90)
        write(edge, tops["notes"], notes, SMALL, color=GREY)
        write(left - _GAP / self.size.width, tops["above"], [self.above], SMALL, ha="right")
        if self.legend:
            figure.legend(
                handles=self.legend,
                loc="upper left",
                bbox_to_anchor=(left, tops["legend"]),
                borderaxespad=0,
                borderpad=0,
                handlelength=1.2,
                ncols=columns,
            )
        return figure, axes


def draw_cells(axes: Axes, places: Iterable[tuple[float, float]], values: Sequence[float], scale: Scale) -> None:
    """A cell of width and height 1 round each (column, row), coloured by its value."""
    cells = _draw(axes, ((x - 0.5, y - 0.5, 1, 1) for x, y in places))
    cells.set(array=values, cmap=scale.colours, clim=(scale.low, scale.high), edgecolor="face")


def draw_bars(axes: Axes, bars: Iterable[Rectangle], colour: str) -> None:
    """Rectangles (left, bottom, width, height) of one colour."""
    _draw(axes, bars).set(facecolor=colour, edgecolor=colour)


def draw_tokens(axes: Axes, labels: Mapping[int, str]) -> None:
    """Texts under the columns, upright, with a tick each."""
    across = axes.get_xaxis_transform()
    ticks = axes.plot(list(labels), [0] * len(labels), linestyle="", marker=TICKDOWN, markersize=2.5, color="black")
    ticks[0].set(transform=across, clip_on=False, markeredgewidth=0.6)
    below = across + ScaledTranslation(0, -3.5 * POINT, axes.figure.dpi_scale_trans)
    for place, label in labels.items():
        axes.text(place, 0, label, rotation=90, ha="center", va="top", fontsize=TOKEN, transform=below)


def number_ticks(numbers: Sequence[int], length: float, *, upright: bool) -> tuple[list[int], list[str]]:
    """Places and labels along an axis of so many inches, as many as can be read; `upright`: it goes upwards."""
    label = SMALL * POINT * 1.2 if upright else max(text_width(f"{number}  ", SMALL) for number in numbers)
    room = length / len(numbers)
    every = next(
        step for unit in (1, 10, 100, 1000, 10**4) for step in (unit, 2 * unit, 5 * unit) if step * room >= label
    )
    # Of neighbours those that can be divided by it are shown: 10, 12, … and not 9, 11, ….
    neighbours = numbers[-1] - numbers[0] == len(numbers) - 1
    places = [place for place, number in enumerate(numbers) if (number if neighbours else place) % every == 0]
    return places, [str(numbers[place]) for place in places]


def _draw(axes: Axes, sides: Iterable[Rectangle]) -> PolyCollection:
    corners = [((x, y), (x + w, y), (x + w, y + h), (x, y + h)) for x, y, w, h in sides]
    # Sharp pixels in the PNG; a hairline of the same colour closes the seams that PDF viewers leave.
    drawn = PolyCollection(corners, antialiased=False, linewidth=0.15)
    axes.add_collection(drawn, autolim=False)
    return drawn


def _draw_scale(axes: Axes, scale: Scale, height: float) -> None:
    span, steps = scale.high - scale.low, 128
    axes.imshow(
        [[scale.low + span * (step + 0.5) / steps] for step in range(steps)],
        cmap=scale.colours,
        vmin=scale.low,
        vmax=scale.high,
        origin="lower",
        aspect="auto",
        extent=(0, 1, scale.low, scale.high),
    )
    axes.spines[:].set_visible(True)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    least = min(scale.parts)
    parts = next((parts for parts in scale.parts if height / parts >= 2 * SMALL * POINT), least)
    ticks = [scale.low + span * part / parts for part in range(parts + 1)]
    axes.set_yticks(ticks, [f"{tick:z.3g}".replace("-", "−") for tick in ticks])
    tip = _TIP / height if scale.clipped else 0.0
    if scale.clipped:
        for base, end, colour in ((0, -tip, scale.colours(0.0)), (1, 1 + tip, scale.colours(1.0))):
            axes.fill([0, 1, 0.5], [base, base, end], color=colour, transform=axes.transAxes, clip_on=False)
    axes.text(0, 1 + tip + 0.03 / height, scale.label, va="bottom", fontsize=SMALL, transform=axes.transAxes)
