"""Invisible characters in any text, made visible.

Tokens, answers and names come out of models and files and may hold anything: control characters, bidirectional marks,
half a surrogate pair. The visible text must still be escaped.
"""

from __future__ import annotations

import re
import unicodedata

TOKEN_LIMIT = 32

# Names of the whitespace that ends up in labels; other invisible characters are shown by their code point.
_WHITESPACE = {" ": "␣", "\n": "↵", "\t": "⇥"}
# Kept in running text, where they only shape the letters next to them: zero-width (non-)joiner.
_JOINERS = "\u200c\u200d"
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
_NUMBER = re.compile(r"(\d{1,9})")
_HALF = re.compile("[\ud800-\udfff]")


def visible(token: str, limit: int = TOKEN_LIMIT) -> str:
    """A token on one line with its whitespace visible; a token of more than `limit` characters is cut."""
    if not token:
        return "(empty)"
    shown = "".join(_WHITESPACE.get(char) or _code_point(char) for char in token[:limit])
    return shown if len(token) <= limit else f"{shown}… ({len(token):,} characters)"


def legible(text: str) -> str:
    """Running text with its spaces and line breaks; other invisible characters are made visible."""
    return "".join(char if char in " \n\t\xa0" or char in _JOINERS else _code_point(char) for char in text)


def natural_order(name: str) -> list[tuple[int, str]]:
    """A sort key for names with numbers, such as L18.resid_post or epochs-12: L9 comes before L18."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]


def half_surrogate(text: str) -> int | None:
    """The index of the first surrogate, high or low: half of a pair, which has no UTF-8. None if there is none."""
    found = _HALF.search(text)
    return None if found is None else found.start()


def _code_point(char: str) -> str:
    return f"⟨U+{ord(char):04X}⟩" if unicodedata.category(char) in _INVISIBLE else char
