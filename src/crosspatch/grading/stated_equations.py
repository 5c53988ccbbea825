r"""The equations and inequalities in one unknown that stand anywhere in a text, in lines of their own or among words.

Each side is kept term by term, as it is written, so that `18 - 6` is told from `12`. A product of brackets that is 0
gives an equation for each of its factors. What cannot be read is passed over. Works on one spelling (`statements`);
knows nothing of what is done to an equation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Literal

from crosspatch.data.polynomial import Polynomial, size
from crosspatch.grading.equations.expression import Unreadable
from crosspatch.grading.equations.reading import readings

# What stands between formulae: words, ends of sentences, arrows.
_BREAK = re.compile(
    r"(?<![\\a-zA-Z])[a-zA-Z]{2,}|[:;?!#|\n]|[.,](?=\s|$)|[⇒→∴≈]"
    r"|\\(?:Rightarrow|implies|to|rightarrow|therefore|qquad|approx)(?![a-zA-Z])"
)
_RELATION = re.compile(r"[=<>≤≥]|\\(?:leq?|geq?|lt|gt)(?![a-zA-Z])")
_LETTER = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])")
_TIMES = re.compile(r"\\times(?![a-zA-Z])|\\cdot(?![a-zA-Z])|[×·*]")
_OPERATOR_BEFORE = re.compile(r"(?:\\times|\\cdot|\\div|[*/×·÷^({\[])\s*$")
_NUMBER = re.compile(r"-?\s?(?:\d+(?:\.\d+)?|\d+\s?/\s?\d+|\\frac\{-?\d+\}\{\d+\})")
_PRODUCT = re.compile(r"-?\d*\s?((?:\([^()]*\)\s?){2,}|\([^()]*\)\s?\^\{?2\}?)")
_LONGEST = 200  # characters of a formula that is read


@dataclass(frozen=True)
class Side:
    """One side as it is written, and its terms."""

    text: str
    terms: tuple[Polynomial, ...]

    @classmethod
    def read(cls, text: str, unknown: str) -> Side:
        """Raises Unreadable for anything but a polynomial up to degree two."""
        text = text.strip()
        return cls(text, tuple(_polynomial(term, unknown) for term in _terms(text)))

    @cached_property
    def value(self) -> Polynomial:
        """All terms together."""
        return sum(self.terms, Polynomial())

    @property
    def unfinished(self) -> bool:
        """Whether terms of one power stand apart, as in `15 + 21`."""
        powers = [_power(term) for term in self.terms if term]
        return len(powers) > len(set(powers))

    @property
    def operator(self) -> Literal["times", "over"] | None:
        """The multiplication or, without one, the division that is written."""
        if _TIMES.search(self.text):
            return "times"
        return "over" if "/" in self.text or r"\frac" in self.text or "÷" in self.text else None

    @property
    def number(self) -> bool:
        """Whether it is nothing but one number, which may be a fraction."""
        return _NUMBER.fullmatch(self.text) is not None

    def says(self, value: Polynomial) -> bool:
        """Whether it is this value, or a decimal that rounds it."""
        if self.value == value:
            return True
        decimals = re.fullmatch(r"-?\s?\d+\.(\d+)", self.text)
        if decimals is None or value.linear or value.square:
            return False
        return size(value.constant - self.value.constant) * 2 * 10 ** len(decimals[1]) <= 1


@dataclass(frozen=True)
class StatedEquation:
    """Two sides, and where in the text they begin."""

    left: Side
    right: Side
    start: int = 0

    @property
    def pair(self) -> tuple[Polynomial, Polynomial]:
        """The values of both sides."""
        return self.left.value, self.right.value


def stated_equations(tidy: str) -> Iterator[StatedEquation]:
    """All that can be read, in order; of `x = 15/5 = 3` both equations."""
    start = 0
    for match in [*_BREAK.finditer(tidy), None]:
        formula = tidy[start : match.start() if match else len(tidy)]
        letters = set(_LETTER.findall(formula))
        if len(formula) <= _LONGEST and len(letters) == 1 and _RELATION.search(formula):
            yield from _chain(formula, letters.pop(), start)
        start = match.end() if match else len(tidy)


def _chain(formula: str, unknown: str, start: int) -> Iterator[StatedEquation]:
    """The equations of `a = b = c`: of the one side with the unknown and each other, else of neighbours."""
    texts = _RELATION.split(formula)
    try:
        if len(texts) == 2 and texts[1].strip() == "0" and (product := _PRODUCT.fullmatch(texts[0].strip())):
            for factor in re.findall(r"\(([^()]*)\)", product[1]):
                yield StatedEquation(Side.read(factor, unknown), Side.read("0", unknown), start)
            return
        sides = [Side.read(text, unknown) for text in texts]
    except Unreadable:
        return
    holding = [i for i, side in enumerate(sides) if side.value.linear or side.value.square]
    pairs = list(pairwise(range(len(sides))))
    if len(holding) == 1:
        pairs = [(holding[0], i) for i in range(len(sides)) if i != holding[0]]
    for i, j in pairs:
        yield StatedEquation(sides[i], sides[j], start)


def _terms(text: str) -> Iterator[str]:
    """Cut at each + and - that stands between terms."""
    depth = last = 0
    for match in re.finditer(r"[(\[{]|[)\]}]|[+-]", text):
        sign, before = match.group(), text[last : match.start()]
        if sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
        elif not depth and before.strip(" +-") and not _OPERATOR_BEFORE.search(before):
            yield before
            last = match.start()
    yield text[last:]


def _polynomial(term: str, unknown: str) -> Polynomial:
    read = readings(term, unknown)
    if len(read) != 1:
        raise Unreadable
    coefficients = [Fraction(0)] * 3
    for power, radicand, factor in read[0].terms:
        if power > 2 or radicand != 1:
            raise Unreadable
        coefficients[2 - power] = Fraction(factor)
    return Polynomial(*coefficients)


def _power(term: Polynomial) -> int:
    return 2 if term.square else 1 if term.linear else 0
