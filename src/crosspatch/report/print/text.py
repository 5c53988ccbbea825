"""Text that fits: its width in the font that is drawn with, broken and cut to a given one.

Model output may be wider than any rule of thumb says, so each character is measured. All widths are in inches. Knows
nothing of figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

from crosspatch.characters import visible
from crosspatch.report.pictures.glyphs import drawable

POINT = 1 / 72
# From one line to the next, in sizes of type.
LEADING = 1.25
_ELLIPSIS = "…"


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
