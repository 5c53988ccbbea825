"""Linear inequalities in one unknown."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Derivation, Exercise
from crosspatch.data.families.solving import RANGES, UNKNOWNS, LinearSteps
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Polynomial, Rational, number
from crosspatch.data.styles import plain

SIGNS = ("<", ">", r"\leq", r"\geq")

WORDINGS = (
    "Solve the inequality {inequality}.",
    "For which {x} is {inequality}?",
    "Solve for {x}: {inequality}",
    "Find all {x} with {inequality}.",
    "Which values of {x} satisfy {inequality}?",
    "What has to hold for {x} so that {inequality}?",
)


@dataclass(frozen=True)
class Inequality(Exercise):
    """left < right, or with another sign, in one unknown."""

    left: Polynomial
    right: Polynomial
    sign: str
    unknown: str

    @property
    def key(self) -> Hashable:
        """Both sides and the sign, whatever the unknown."""
        return self.left, self.right, self.sign

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        inequality = f"{self.left.plain(self.unknown)} {plain(self.sign)} {self.right.plain(self.unknown)}"
        return rng.choice(WORDINGS).format(inequality=inequality, x=self.unknown)

    def admits(self, value: Hashable) -> bool:
        """Whether (sign, bound) says the same of three points: the bound, and one on either side of it."""
        if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Rational)):
            return False
        sign, bound = value
        return all(
            compare(self.left.at(point), self.sign, self.right.at(point)) == compare(point, sign, bound)
            for point in (bound - 1, bound, bound + 1)
        )

    def solve(self, rules: Rules) -> Derivation:
        """By moving and isolating; the sign turns where the factor is negative."""
        x = self.unknown
        solver = LinearSteps(self.left, self.right, x, rules, self.sign)
        bound = solver.solved()
        given = f"{self.left.latex(x)} {self.sign} {self.right.latex(x)}"
        answer = f"{x} {solver.sign} {number(bound)}"
        return Derivation(given, "We are given the inequality", tuple(solver.steps), answer, ((solver.sign, bound),))


def compare(left: Rational, sign: str, right: Rational) -> bool:
    """Whether left < right, or what the sign says."""
    match sign:
        case "<":
            return left < right
        case ">":
            return left > right
        case r"\leq":
            return left <= right
        case _:
            return left >= right


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Inequality:
    """An inequality whose bound is a whole number."""
    ranges = RANGES[difficulty]
    factor = rng.choice((-1, 1)) * rng.randint(2, ranges.factor)
    # A bound of 0 would hide a mistake: -7y > 0 and -3y > 0 say the same.
    bound, constant = (rng.choice((-1, 1)) * rng.randint(1, limit) for limit in (ranges.solution, ranges.constant))
    other = rng.choice((0, rng.choice([c for c in range(-ranges.factor, ranges.factor + 1) if c not in (0, factor)])))
    left = Polynomial(linear=factor, constant=constant)
    right = Polynomial(linear=other, constant=(factor - other) * bound + constant)
    return Inequality(left, right, rng.choice(SIGNS), rng.choice(UNKNOWNS))
