"""Marks in a text that is being written: which words, signs and numbers are wrong.

A mark is put round a piece while formulae are composed, and taken out once the text is whole, when its place in
characters is known.
"""

from __future__ import annotations

import re

from crosspatch.data.problem import Span, SpanKind

# Private characters of Unicode: no text of ours holds them, and no formatting touches them.
_OPEN: dict[SpanKind, str] = {"word": "\ue000", "sign": "\ue001", "number": "\ue002"}
_KINDS = {char: kind for kind, char in _OPEN.items()}
_CLOSE = "\ue003"
_ANY = re.compile("[\ue000-\ue003]")


def mark(kind: SpanKind, text: str, wrong: bool = True) -> str:
    """The text, marked where it is wrong."""
    return f"{_OPEN[kind]}{text}{_CLOSE}" if wrong else text


def unmarked(text: str) -> str:
    """The text alone."""
    return _ANY.sub("", text) if "\ue003" in text else text


def taken_out(text: str) -> tuple[str, tuple[Span, ...]]:
    """The text alone and the places that were marked in it, in order."""
    pieces, spans, length, last = [], [], 0, 0
    opened: list[tuple[SpanKind, int]] = []
    for match in _ANY.finditer(text):
        pieces.append(text[last : match.start()])
        length += match.start() - last
        last = match.end()
        if match.group() == _CLOSE:
            kind, start = opened.pop()
            spans.append(Span(kind, start, length))
        else:
            opened.append((_KINDS[match.group()], length))
    return "".join([*pieces, text[last:]]), tuple(sorted(spans, key=lambda span: span.start))
