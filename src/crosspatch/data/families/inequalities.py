"""Linear inequalities in one unknown."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Exercise, Work
from crosspatch.data.families.solving import RANGES, UNKNOWNS, Solver, nonzero
from crosspatch.data.latex import Rational, number
from crosspatch.data.mistakes import Broken
from crosspatch.data.polynomial import Polynomial

SIGNS = {"<": operator.lt, ">": operator.gt, r"\leq": operator.le, r"\geq": operator.ge}


@dataclass(frozen=True)
class Inequality(Exercise):
    """left < right, or with another sign, in one unknown."""

    left: Polynomial
    right: Polynomial
    sign: str
    unknown: str = field(compare=False)

    wordings = (
        "Solve the inequality {given}.",
        "For which {unknown} is {given}?",
        "Solve for {unknown}: {given}",
        "Find all {unknown} with {given}.",
        "Which values of {unknown} satisfy {given}?",
        "What has to hold for {unknown} so that {given}?",
    )
    label = "We are given the inequality"

    @property
    def given(self) -> str:
        """Both sides."""
        return f"{self.left.latex(self.unknown)} {self.sign} {self.right.latex(self.unknown)}"

    def admits(self, value: tuple[str, Rational]) -> bool:
        """Whether (sign, bound) agrees at three points: the bound, and one on either side of it."""
        sign, bound = value
        return all(
            SIGNS[self.sign](self.left.at(point), self.right.at(point)) == SIGNS[sign](point, bound)
            for point in (bound - 1, bound, bound + 1)
        )

    def _work(self, broken: Broken) -> Work[tuple[str, tuple[tuple[str, Rational]]]]:
        solver = Solver(self.left, self.right, self.unknown, broken, self.sign)
        bound = yield from solver.linear()
        return f"{self.unknown} {solver.sign} {number(bound)}", ((solver.sign, bound),)


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Inequality:
    """An inequality whose bound is a whole number."""
    ranges = RANGES[difficulty]
    factor = nonzero(rng, ranges.factor, least=2)
    # A bound of 0 would hide a mistake: -7y > 0 and -3y > 0 have the same solutions.
    bound, constant = nonzero(rng, ranges.solution), nonzero(rng, ranges.constant)
    other = rng.choice((0, rng.choice([c for c in range(-ranges.factor, ranges.factor + 1) if c not in (0, factor)])))
    left = Polynomial(linear=factor, constant=constant)
    right = Polynomial(linear=other, constant=(factor - other) * bound + constant)
    return Inequality(left, right, rng.choice([*SIGNS]), rng.choice(UNKNOWNS))
