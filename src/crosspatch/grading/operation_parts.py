r"""One operation on an equation, and the verdicts on what is written below it: its sign and its number.

An operation holds what a right and a mistaken solver make of the equation; lines are compared with both. Knows neither
problems nor how an operation is said.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import ClassVar, Literal

from crosspatch.data.polynomial import Polynomial, Rational, divided, size
from crosspatch.grading.operations import Told
from crosspatch.grading.stated_equations import Side, StatedEquation

Kind = Literal["move", "isolate"]
Part = Literal["word", "sign", "number"]
# An equation's sides.
Pair = tuple[Polynomial, Polynomial]


@dataclass(frozen=True)
class Operation(ABC):
    """The verdict on its word, the equation it is done to, and what may stand there afterwards.

    `right` and `planted` are what either solver writes; empty where that cannot be said.
    """

    kind: ClassVar[Kind]
    word: Told
    before: Pair | None = None
    right: tuple[Pair, ...] = ()
    planted: tuple[Pair, ...] = ()

    @property
    def made(self) -> list[Pair]:
        """What the word alone makes of the equation."""
        return list({"right": self.right, "planted": self.planted}.get(self.word, ())[:1])

    def parts(self, lines: Sequence[StatedEquation]) -> Iterator[tuple[Part, Told]]:
        """The verdicts, given the equations that are written below."""
        yield "word", self.word
        if self.right:
            # Some write the equation once more before they go on.
            yield from self.below([line for line in lines if line.pair != self.before])

    @abstractmethod
    def below(self, lines: Sequence[StatedEquation]) -> Iterator[tuple[Part, Told]]:
        """The verdicts on sign and number."""

    def told(self, line: StatedEquation) -> Told:
        """Which solver writes this equation."""
        return one_of(*(any(self.says(line, pair) for pair in pairs) for pairs in (self.right, self.planted)))

    def says(self, line: StatedEquation, pair: Pair) -> bool:
        """Whether a line is an equation, whichever side comes first."""
        return any(line.left.says(a) and line.right.says(b) for a, b in (pair, pair[::-1]))


@dataclass(frozen=True)
class Move(Operation):
    """`moved` leaves the side `source` (0 is the left one); None where no such term stands in the equation."""

    kind = "move"
    moved: Polynomial | None = None
    source: int = 0

    @classmethod
    def of(cls, word: Told, before: Pair, moved: Polynomial, source: int, broken: bool) -> Move:
        """The move of a term; `broken` says whether the mistake turns moves round."""
        right = before[0] - moved, before[1] - moved
        planted = (right[0], before[1] + moved) if source == 0 else (before[0] + moved, right[1])
        return cls(word, before, (right,), (planted,) if broken else (), moved, source)

    def below(self, lines: Sequence[StatedEquation]) -> Iterator[tuple[Part, Told]]:
        """The sign of what arrives, where it stands apart, then the number."""
        signed = False
        for i, line in enumerate(lines):
            again = i + 1 < len(lines) and lines[i + 1].pair == line.pair
            if line.left.unfinished or line.right.unfinished or (again and not signed and self._arrives_apart):
                if not signed:
                    yield "sign", self._sign(line)
                signed = True
                continue
            if not signed and self._fills_a_side and self._target(line).text.startswith("-"):
                yield "sign", self._minus()
            yield "number", self.told(line)
            return

    def says(self, line: StatedEquation, pair: Pair) -> bool:
        """A multiple of the equation is as good: of 5x = 15 that is x = 3."""
        return super().says(line, pair) or any(_proportional(line.pair, other) for other in (pair, pair[::-1]))

    def _sign(self, line: StatedEquation) -> Told:
        told = self.told(line)
        if told != "neither" or self.moved is None:
            return told
        # Some number is wrong too; the sign may still be seen.
        square, linear, constant = self.moved.coefficients
        moved = [term for term in (Polynomial(square), Polynomial(0, linear), Polynomial(0, 0, constant)) if term]
        there = self._target(line).terms
        return one_of(all(-t in there for t in moved), bool(self.planted) and all(t in there for t in moved))

    def _minus(self) -> Told:
        """Whose is the minus of a term that came to a side where nothing stood?"""
        pairs = self.right, self.planted
        return one_of(*(any(pair[1 - self.source].leading < 0 for pair in one) for one in pairs))

    def _target(self, line: StatedEquation) -> Side:
        return line.left if self.source else line.right

    @property
    def _fills_a_side(self) -> bool:
        """Whether nothing stood where the term goes."""
        return self.moved is not None and self.before is not None and not self.before[1 - self.source]

    @property
    def _arrives_apart(self) -> bool:
        """Whether there is nothing that it could be put together with, so that it stands apart for good."""
        if self.moved is None or self.before is None:
            return False
        there = self.before[1 - self.source].coefficients
        return not any(c and m for c, m in zip(there, self.moved.coefficients, strict=True))


@dataclass(frozen=True)
class Isolation(Operation):
    """A factor goes; `divides` says whether a right solver writes a division."""

    kind = "isolate"
    divides: bool = True

    @classmethod
    def of(cls, word: Told, before: Pair, by: Rational, broken: bool) -> Isolation:
        """`by` is the divisor that is said, where the word is right, else the factor of the unknown."""
        right = [(before[0] / by, before[1] / by)]
        planted: tuple[Pair, ...] = ()
        if (factor := factor_in(before)) is not None:
            right += [(before[0] / factor, before[1] / factor)]
            turned = [side / factor if side.linear else side / divided(1, factor) for side in before]
            planted = ((turned[0], turned[1]),) if broken else ()
        return cls(word, before, tuple(right), planted, by.denominator == 1)

    def below(self, lines: Sequence[StatedEquation]) -> Iterator[tuple[Part, Told]]:
        """The sign of the multiplication or division, where it is written, then the number."""
        signed = False
        for i, line in enumerate(lines):
            side, other = (line.left, line.right) if line.right.value.linear else (line.right, line.left)
            if side.operator and not signed and not self._carried_out(side):
                yield "sign", self._sign(line, side)
                signed = True
            if side.unfinished or (side.operator and not side.number):
                continue
            if side.operator and i + 1 < len(lines) and other.value in lines[i + 1].pair:
                continue  # it is reduced in the next line
            yield "number", self.told(line)
            return

    def _carried_out(self, side: Side) -> bool:
        """Whether a fraction is a result, not the value over the factor: of 6x = 9 it is 3/2, but not 9/6."""
        if not side.number or self.before is None:
            return False
        over, under = (abs(int(n)) for n in re.findall(r"\d+", side.text))
        return not any(
            size(value.constant) == over and size(unknown.linear) in (under, Fraction(1, under))
            for value, unknown in (self.before, self.before[::-1])
        )

    def _sign(self, line: StatedEquation, side: Side) -> Told:
        told = self.told(line)
        if told != "neither":
            return told
        as_right = (side.operator == "over") == self.divides
        return one_of(as_right, bool(self.planted) and not as_right)


def factor_in(pair: Pair) -> Rational | None:
    """The factor of the unknown in `5x = 12` or `12 = 5x`; None where there is more to be done."""
    for a, b in (pair, pair[::-1]):
        if a.linear and not a.square and not a.constant and not b.linear and not b.square:
            return a.linear
    return None


def one_of(right: bool, planted: bool) -> Told:
    """What both would write is right."""
    return "right" if right else "planted" if planted else "neither"


def _proportional(a: Pair, b: Pair) -> bool:
    first, second = (pair[0].coefficients + pair[1].coefficients for pair in (a, b))
    return (
        any(first)
        and any(second)
        and all(x * w == y * v for (x, v), (y, w) in product(zip(first, second, strict=True), repeat=2))
    )
