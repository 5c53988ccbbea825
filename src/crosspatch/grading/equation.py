"""Solves linear and quadratic equations in one unknown exactly."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from crosspatch.grading.expression import Expression, Unreadable
from crosspatch.grading.reading import readings, tokens


@dataclass(frozen=True)
class Solutions:
    """The possible values of an unknown: certain values, none, or `everything`."""

    values: frozenset[Expression] = frozenset()
    everything: bool = False

    @classmethod
    def union(cls, parts: Iterable[Solutions]) -> Solutions:
        """Combine the solutions of several equations."""
        parts = list(parts)
        if any(part.everything for part in parts):
            return cls(everything=True)
        return cls(frozenset[Expression]().union(*(part.values for part in parts)))

    @property
    def none(self) -> bool:
        """Whether the equation has no solution."""
        return not self.values and not self.everything

    @property
    def real(self) -> frozenset[Expression]:
        """The solutions that are real."""
        return frozenset(value for value in self.values if all(radicand > 0 for _, radicand, _ in value.terms))


def solve(left: Expression, right: Expression) -> Solutions:
    """Return all solutions of left = right, also complex ones; raises Unreadable above degree two."""
    whole = left - right
    a, b, c = (whole.coefficient(power) for power in (2, 1, 0))
    if whole.degree > 2:
        raise Unreadable
    if not a.terms:
        if b.terms:
            return Solutions(frozenset({-c / b}))
        return Solutions(everything=not c.terms)
    root = (b * b - Expression.constant(4) * a * c).sqrt()
    double = a + a
    return Solutions(frozenset({(-b + root) / double, (-b - root) / double}))


def solve_all(lefts: Sequence[Expression], rights: Sequence[Expression]) -> Solutions:
    """Solve an equation; each side has two readings if there is a ±. Upper signs go together, and lower signs do."""
    pairs = zip(lefts, rights, strict=True) if len(lefts) == len(rights) else product(lefts, rights)
    return Solutions.union(solve(left, right) for left, right in pairs)


_OR = re.compile(
    r"\\(?:text|textrm|mathrm|mbox)\s?\{\s*(?:or|and)\s*\}|\\(?:lor|vee|land|wedge|qquad|quad)(?![a-zA-Z])"
    r"|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])|;|,(?!\d{3}(?!\d))|,(?<!\d,)"
)


def alternatives(text: str) -> list[str]:
    """Split at `or`, `and` and commas: into values of one unknown, or equations that give one value each."""
    return [part.strip() for part in _OR.split(text) if part.strip()]


@dataclass(frozen=True)
class Equation:
    """An equation with one unknown: its sides as written, and its solutions."""

    left: str
    right: str
    unknown: str
    solutions: Solutions

    @classmethod
    def of(cls, left: str, right: str, unknown: str) -> Equation:
        """Make an equation from its two sides; raises Unreadable."""
        left, right = " ".join(left.split()), " ".join(right.split())
        return cls(left, right, unknown, solve_all(readings(left, unknown), readings(right, unknown)))

    @property
    def key(self) -> Hashable:
        """A key of the equation's two sides, regardless of the unknown's name, spacing and order of the terms.

        Brackets count: 2(x + 3) = 10 is neither the same exercise as 2x + 6 = 10 nor as 10 = 2(x + 3).
        """
        return self._side(self.left), self._side(self.right)

    def _side(self, text: str) -> Hashable:
        found = ["x" if token == self.unknown else token for token in tokens(text)]
        bracketed = "(" in found or "[" in found
        return tuple(token for token in found if token != "*") if bracketed else readings(text, self.unknown)

    @property
    def latex(self) -> str:
        r"""Return the answer, `x = 3 \text{ or } x = -\frac{1}{2}`, with real values only."""
        values = sorted(self.solutions.real, key=lambda value: -value.approximate().real)
        return r" \text{ or } ".join(f"{self.unknown} = {value.latex()}" for value in values)
