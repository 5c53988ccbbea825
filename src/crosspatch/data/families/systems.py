"""Two linear equations in two unknowns, solved by elimination."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Derivation, Exercise, Show, WorkedStep
from crosspatch.data.families.solving import RANGES, LinearSteps
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Polynomial, Rational, bracketed, number, size

UNKNOWNS = (("x", "y"), ("a", "b"), ("m", "n"), ("p", "q"), ("s", "t"), ("u", "v"))

WORDINGS = (
    "Solve the system of equations {first} and {second}.",
    "Find {x} and {y} if {first} and {second}.",
    "What are {x} and {y} if {first} and {second}?",
    "Solve for {x} and {y}: {first}, {second}",
    "Determine the numbers {x} and {y} with {first} and {second}.",
    "{first} and {second}. Solve for {x} and {y}.",
)


@dataclass(frozen=True)
class Line:
    """`first`·x + `second`·y = `right`."""

    first: Rational
    second: Rational
    right: Rational

    def __mul__(self, factor: int) -> Line:
        return Line(self.first * factor, self.second * factor, self.right * factor)

    def holds(self, x: Rational, y: Rational) -> bool:
        """Whether both sides are equal there."""
        return self.first * x + self.second * y == self.right

    def latex(self, x: str, y: str) -> str:
        """`3x - y = 5`; LaTeX and plain text are the same."""
        left = Polynomial(linear=self.first).latex(x)
        term = Polynomial(linear=size(self.second)).latex(y)
        return f"{left} {'+' if self.second > 0 else '-'} {term} = {number(self.right)}"


@dataclass(frozen=True)
class System(Exercise):
    """Both equations; every factor differs from 0, and there is one solution."""

    first: Line
    second: Line
    unknowns: tuple[str, str]

    @property
    def key(self) -> Hashable:
        """Both equations in any order, whatever the unknowns."""
        return frozenset((self.first, self.second))

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        x, y = self.unknowns
        first, second = self.first.latex(x, y), self.second.latex(x, y)
        return rng.choice(WORDINGS).format(first=first, second=second, x=x, y=y)

    def admits(self, value: Hashable) -> bool:
        """Whether both equations hold for the pair."""
        return isinstance(value, tuple) and self.first.holds(*value) and self.second.holds(*value)

    def solve(self, rules: Rules) -> Derivation:
        """Make the second unknown's factors equal, take it out, solve for the first, put it in."""
        x, y = self.unknowns
        one, other = self.first, self.second
        given = self._both(one, other)
        steps = []
        common = math.lcm(int(one.second), int(other.second))
        factors = [common // abs(int(line.second)) for line in (one, other)]
        if factors != [1, 1]:
            one, other = one * factors[0], other * factors[1]
            scaled = [
                f"the {which} equation by {n}" for which, n in zip(("first", "second"), factors, strict=True) if n > 1
            ]
            title = f"Multiply {' and '.join(scaled)}"
            shown = (Show(one.latex(x, y)), Show(other.latex(x, y)))
            steps.append(WorkedStep("scale", title, shown, after=self._both(one, other)))
        sign = 1 if one.second != other.second else -1
        left = Polynomial(linear=one.first + sign * other.first)
        right = Polynomial(constant=one.right + sign * other.right)
        title = "Add both equations" if sign == 1 else "Subtract the second equation from the first"
        alone = f"{left.latex(x)} = {right.latex(x)}"
        after = f"{alone}; {self.first.latex(x, y)}"
        steps.append(WorkedStep("eliminate", title, (Show(alone),), after=after))
        value = self._solve(LinearSteps(left, right, x, rules), alone, steps)
        # The value goes into the first equation as it was given.
        put_in = f"{x} = {number(value)}"
        product = self.first.first * value
        left = Polynomial(linear=self.first.second, constant=product)
        right = Polynomial(constant=self.first.right)
        term = Polynomial(linear=size(self.first.second)).latex(y)
        factor = rf"{number(self.first.first)} \times {bracketed(value)}" if self.first.first != 1 else number(value)
        unfinished = f"{factor} {'+' if self.first.second > 0 else '-'} {term}"
        alone = f"{left.latex(y)} = {right.latex(y)}"
        lines = (Show(f"{unfinished} = {right.latex(y)}"), Show(alone))
        before, after = f"{self.first.latex(x, y)}; {put_in}", f"{put_in}; {alone}"
        title = f"Put ${put_in}$ into the first equation"
        steps.append(WorkedStep("substitute", title, lines, before=before, after=after))
        second = self._solve(LinearSteps(left, right, y, rules), alone, steps)
        answer = rf"{put_in} \text{{ and }} {y} = {number(second)}"
        label = "We are given the equations"
        return Derivation(given, label, tuple(steps), answer, ((value, second),))

    def _both(self, one: Line, other: Line) -> str:
        return f"{one.latex(*self.unknowns)}; {other.latex(*self.unknowns)}"

    def _solve(self, solver: LinearSteps, before: str, steps: list[WorkedStep]) -> Rational:
        value = solver.solved()
        if solver.steps:
            solver.steps[0] = replace(solver.steps[0], before=before)
        steps += solver.steps
        return value


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> System:
    """A system whose solution is whole."""
    ranges, limit = RANGES[difficulty], max(4, RANGES[difficulty].factor // 2)
    while True:
        a, b, c, d = (rng.choice((-1, 1, 1)) * rng.randint(1, limit) for _ in range(4))
        if a * d != b * c:
            break
    x, y = (rng.randint(-ranges.solution, ranges.solution) for _ in range(2))
    return System(Line(a, b, a * x + b * y), Line(c, d, c * x + d * y), rng.choice(UNKNOWNS))
