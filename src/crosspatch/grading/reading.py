r"""Parses expressions in LaTeX or plain text: `2(x - 3)`, `\frac{17 \pm \sqrt{227}}{2}`, x² − √2.

Refuses text that is ambiguous or is no sum of powers of one unknown. Evaluates by `Expression` alone, which is
safe for any text. One side of an equation takes 50 µs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache

from crosspatch.data.polynomial import Polynomial
from crosspatch.grading.expression import UNKNOWN, Expression, Unreadable
from crosspatch.grading.maths_text import typed

_LONGEST, _DEEPEST = 300, 20  # the maximum number of characters, and of nested brackets
_NOTHING = re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\\[,;:! ]|~")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
    r"|\\\\?(?P<command>[a-zA-Z]+)|(?P<word>[^\W\d_]+)|(?P<power>\*\*)|(?P<sign>[-+*/^(){}\[\]±∓√]))"
)
_COMMANDS = {
    "frac": "frac", "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "sqrt": "sqrt",
    "cdot": "*", "times": "*", "div": "/", "pm": "±", "mp": "∓",
}  # fmt: skip
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def tokens(text: str) -> list[str]:
    """Split into numbers, letters, signs, `frac` and `sqrt`; raises Unreadable for anything else."""
    return list(_scanned(text))


def _scanned(text: str) -> Iterator[str]:
    if len(text) > _LONGEST:
        raise Unreadable
    text = _NOTHING.sub(" ", typed(text).replace("{,}", ",")).strip()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise Unreadable
        position = match.end()
        kind, token = match.lastgroup, match[match.lastgroup or 0]
        if kind == "number":
            token = token.replace(",", "")
            if len(token) > 30:
                raise Unreadable
        elif kind == "command":
            token = _COMMANDS.get(token, "")
        elif kind == "word" and len(token) > 1:
            token = token if token == "sqrt" else ""
        elif kind == "power":
            token = "^"
        if not token:
            raise Unreadable
        yield token


@lru_cache(maxsize=4096)
def readings(text: str, unknown: str) -> tuple[Expression, ...]:
    """Parse a text to one expression, or two if it has a ±; raises Unreadable."""
    found = tokens(text)
    signs = (1, -1) if "±" in found or "∓" in found else (1,)
    return tuple(_Reader(found, unknown, sign).all() for sign in signs)


def leading_polynomial(text: str) -> Polynomial | None:
    """Parse the polynomial in one unknown at the beginning of a text; None if there is none."""
    found: list[str] = []
    with suppress(Unreadable):
        found.extend(_scanned(text))
    unknown = next((token for token in found if len(token) == 1 and token.isalpha()), "")
    try:
        return _Reader(found, unknown, 1).sum().polynomial
    except Unreadable:
        return None


class _Reader:
    """A recursive-descent parser of the tokens."""

    def __init__(self, found: list[str], unknown: str, sign: int) -> None:
        self.tokens = found
        self.unknown = unknown
        self.signs = {"+": 1, "-": -1, "±": sign, "∓": -sign}
        self.position = 0
        self.depth = 0

    def all(self) -> Expression:
        value = self.sum()
        if self.position < len(self.tokens):
            raise Unreadable
        return value

    @property
    def next(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.next
        self.position += 1
        return token

    def sum(self) -> Expression:
        value = self.product()
        while self.next in self.signs:
            sign = self.signs[self.take()]
            term = self.product()
            value = value + term if sign > 0 else value - term
        return value

    def product(self) -> Expression:
        value, divided = self.factor(), False
        while True:
            if self.next == "*":
                self.take()
                value = value * self.factor()
            elif self.next == "/":
                self.take()
                value, divided = value / self.factor(), True
            elif self.juxtaposed():
                factor = self.power()
                # 1/2x is x/2, since quotients by x are not supported; 1/2(3) is ambiguous.
                if divided and (value.degree or not factor.degree):
                    raise Unreadable
                value = value * factor
            else:
                return value

    def juxtaposed(self) -> bool:
        """Whether a factor follows without a multiplication sign."""
        before, token = self.tokens[self.position - 1], self.next
        if token == "frac" and _is_number(before):
            raise Unreadable  # 2\frac{1}{2} is a mixed number to some, a product to others
        if token == "(" and before == self.unknown:
            return self.unknown in self.tokens[self.position : self.end_of_bracket()]  # f(3) is no product
        return token in ("(", "[", "frac", "sqrt", "√") or (token.isalpha() and not before.isalpha())

    def end_of_bracket(self) -> int:
        depth = 0
        for i in range(self.position, len(self.tokens)):
            depth += (self.tokens[i] == "(") - (self.tokens[i] == ")")
            if not depth:
                return i
        return len(self.tokens)

    def factor(self) -> Expression:
        if self.next in self.signs:
            sign = self.signs[self.take()]
            with _Deeper(self):
                value = self.factor()
            return value if sign > 0 else -value
        return self.power()

    def power(self) -> Expression:
        value = self.atom()
        if self.next != "^":
            return value
        self.take()
        bracket = self.take() if self.next in ("{", "(") else ""
        exponent = self.take()
        if (bracket and self.take() != _CLOSING[bracket]) or not re.fullmatch("[0-9]", exponent) or self.next == "^":
            raise Unreadable
        return value ** int(exponent)

    def atom(self) -> Expression:
        token = self.take()
        with _Deeper(self):
            if _is_number(token):
                return Expression.constant(Fraction(token) if "." in token else int(token))
            if token in _CLOSING:
                return self.closed(token)
            if token == "frac":
                return self.fraction()
            if token in ("sqrt", "√"):
                inner = self.take()
                return (self.closed(inner) if inner in ("{", "(") else self.number(inner)).sqrt()
        if token and token == self.unknown:
            return UNKNOWN
        if token == "i":
            return Expression(((0, -1, 1),))
        raise Unreadable

    def closed(self, bracket: str) -> Expression:
        """Parse the expression inside an open bracket."""
        value = self.sum()
        if self.take() != _CLOSING[bracket]:
            raise Unreadable
        return value

    def fraction(self) -> Expression:
        token = self.take()
        if re.fullmatch("[0-9]{2}", token):  # \frac12
            return self.number(token[0]) / self.number(token[1])
        if token != "{":
            raise Unreadable
        over = self.closed(token)
        if self.take() != "{":
            raise Unreadable
        return over / self.closed("{")

    def number(self, token: str) -> Expression:
        if not _is_number(token):
            raise Unreadable
        return Expression.constant(Fraction(token))


class _Deeper:
    """Counts the depth of brackets and signs, so no text exhausts the stack."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader

    def __enter__(self) -> None:
        self.reader.depth += 1
        if self.reader.depth > _DEEPEST:
            raise Unreadable

    def __exit__(self, *_: object) -> None:
        self.reader.depth -= 1


def _is_number(token: str) -> bool:
    return token[:1].isdecimal() or token[:1] == "."
