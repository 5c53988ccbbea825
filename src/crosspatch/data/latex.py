r"""Formats numbers and sums in LaTeX, marks wrong parts, and converts LaTeX to plain text.

A mark surrounds a word, sign or number while a solution is composed. `taken_out` removes the marks from the finished
text and returns their positions in characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from crosspatch.data.problem import Span, SpanKind

# Whole numbers stay ints: they are ten times faster than fractions, and compare equal to them.
Rational = int | Fraction

# Private Unicode characters, which no solution contains and no formatting changes.
_OPEN: dict[SpanKind, str] = {"word": "\ue000", "sign": "\ue001", "number": "\ue002"}
_KINDS = {char: kind for kind, char in _OPEN.items()}
_CLOSE = "\ue003"
_ANY = re.compile("([\ue000-\ue003])")


def mark(kind: SpanKind, text: str, wrong: bool = True) -> str:
    """Return the text, with marks if it is wrong."""
    return f"{_OPEN[kind]}{text}{_CLOSE}" if wrong else text


def is_marked(text: str) -> bool:
    """Whether a text contains a mark."""
    return _CLOSE in text


def unmarked(text: str) -> str:
    """Return the text without its marks."""
    return _ANY.sub("", text) if is_marked(text) else text


def taken_out(text: str) -> tuple[str, tuple[Span, ...]]:
    """Return the text without its marks, and the spans that were marked, in order."""
    bare, spans = "", []
    opened: list[tuple[SpanKind, int]] = []
    for piece in _ANY.split(text):
        if piece in _KINDS:
            opened.append((_KINDS[piece], len(bare)))
        elif piece == _CLOSE:
            spans.append(Span(*opened.pop(), len(bare)))
        else:
            bare += piece
    return bare, tuple(sorted(spans, key=lambda span: span.start))


def number(value: Rational) -> str:
    r"""Format a number in LaTeX: `-7`, `\frac{3}{2}`."""
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def size(value: Rational) -> Rational:
    """Return the absolute value; unlike abs(), it keeps the static type."""
    return -value if value < 0 else value


def as_factor(value: Rational) -> str:
    """Format a number as a factor, with brackets around a negative number."""
    return f"({number(value)})" if value < 0 else number(value)


def signed_sum(terms: Sequence[tuple[bool, str]]) -> str:
    """Return a sum such as `-3x + 2` from pairs (is negative, unsigned term); empty for no terms."""
    text = "".join(f" - {term}" if negative else f" + {term}" for negative, term in terms)
    return text.removeprefix(" + ") if not text.startswith(" - ") else f"-{text[3:]}"


_INNER = r"((?:[^{}]|\{[^{}]*\})*)"
_ROOT = re.compile(rf"\\sqrt\{{{_INNER}\}}")
# A fraction before a letter or a root is a factor.
_FRACTION = re.compile(rf"\\frac\{{{_INNER}\}}\{{{_INNER}\}}(?=(\ue003?[a-z√])?)")
_UNSIGNED = re.compile(r"[\w√\ue000-\ue003]+")
_TEXT = re.compile(r" ?\\text\{ ?([^{}]*?) ?\} ?")
_POWER = re.compile(r"\^(?:\{([^{}]*)\}|(\d))")
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SIGNS = {r"\times": "×", r"\cdot": "·", r"\pm": "±", r"\leq": "≤", r"\geq": "≥"}


def plain(latex: str) -> str:
    r"""Convert our LaTeX to plain text: `\frac{x}{3}` becomes `x/3`, `x^2` becomes `x²`. Marks stay in place."""
    if "\\" not in latex and "^" not in latex:
        return latex
    latex = _ROOT.sub(lambda root: f"√{_grouped(root[1])}", latex)
    latex = _FRACTION.sub(_fraction, latex)
    latex = _POWER.sub(_raised, _TEXT.sub(r" \1 ", latex))
    for command, sign in _SIGNS.items():
        latex = latex.replace(command, sign)
    return latex.strip()


def plain_words(text: str) -> str:
    """Convert a sentence with formulae between dollars to plain text."""
    return "".join(plain(part) if i % 2 else part for i, part in enumerate(text.split("$")))


def _grouped(text: str) -> str:
    return text if _UNSIGNED.fullmatch(text) else f"({text})"


def _fraction(match: re.Match[str]) -> str:
    top, under = (_FRACTION.sub(_fraction, part) for part in match.group(1, 2))
    if match[3]:
        # Without brackets, 7/6x could be read as 7 over 6x.
        return f"({top}/{under})"
    minus = "-" if top.startswith("-") and _UNSIGNED.fullmatch(top[1:]) else ""
    return f"{minus}{_grouped(top.removeprefix(minus))}/{_grouped(under)}"


def _raised(power: re.Match[str]) -> str:
    exponent = power[1] or power[2]
    return exponent.translate(_RAISED) if unmarked(exponent).isdigit() else f"^({exponent})"
