"""Two linear equations in two unknowns, solved by elimination."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Exercise, Solving, Work, WorkedStep, collected
from crosspatch.data.families.solving import RANGES, Solver
from crosspatch.data.latex import Rational, as_factor, number
from crosspatch.data.mistakes import Broken
from crosspatch.data.polynomial import Polynomial

UNKNOWNS = (("x", "y"), ("a", "b"), ("m", "n"), ("p", "q"), ("s", "t"), ("u", "v"))


@dataclass(frozen=True)
class Line:
    """`first`·x + `second`·y = `right`."""

    first: int
    second: int
    right: int

    def __mul__(self, factor: int) -> Line:
        return Line(self.first * factor, self.second * factor, self.right * factor)

    def holds(self, x: Rational, y: Rational) -> bool:
        """Whether both sides are equal for these values."""
        return self.first * x + self.second * y == self.right

    def latex(self, x: str, y: str) -> str:
        """Format an equation such as `3x - y = 5`, which is the same in plain text."""
        return f"{Polynomial(linear=self.first).latex(x)} {self.second_term(y)} = {self.right}"

    def second_term(self, y: str) -> str:
        """Format the second term with its sign, such as `- y`."""
        return f"{'+' if self.second > 0 else '-'} {Polynomial(linear=abs(self.second)).latex(y)}"


@dataclass(frozen=True)
class System(Exercise):
    """Two equations with one solution; no factor is 0."""

    first: Line
    second: Line
    unknowns: tuple[str, str] = field(compare=False)

    wordings = (
        "Solve the system of equations {one} and {other}.",
        "Find {x} and {y} if {one} and {other}.",
        "What are {x} and {y} if {one} and {other}?",
        "Solve for {x} and {y}: {one}, {other}",
        "Determine the numbers {x} and {y} with {one} and {other}.",
        "{one} and {other}. Solve for {x} and {y}.",
    )
    label = "We are given the equations"

    @property
    def key(self) -> Hashable:
        """The set of both equations."""
        return frozenset((self.first, self.second))

    def _given(self) -> str:
        return self._both(self.first, self.second)

    def _names(self, rng: Random) -> dict[str, object]:
        return dict(zip(("x", "y", "one", "other"), (*self.unknowns, *self.given.split("; ")), strict=True))

    def admits(self, value: tuple[Rational, Rational]) -> bool:
        """Whether the pair satisfies both equations."""
        return self.first.holds(*value) and self.second.holds(*value)

    def _work(self, broken: Broken) -> Solving:
        """Make the second unknown's factors equal, eliminate it, solve for the first, substitute."""
        x, y = self.unknowns
        one, other = self.first, self.second
        common = math.lcm(one.second, other.second)
        factors = [common // abs(line.second) for line in (one, other)]
        if factors != [1, 1]:
            one, other = one * factors[0], other * factors[1]
            scaled = [
                f"the {which} equation by {n}" for which, n in zip(("first", "second"), factors, strict=True) if n > 1
            ]
            both = self._both(one, other)
            yield WorkedStep("scale", f"Multiply {' and '.join(scaled)}", tuple(both.split("; ")), after=both)
        sign = 1 if one.second != other.second else -1
        left, right = Polynomial(linear=one.first + sign * other.first), one.right + sign * other.right
        title = "Add both equations" if sign == 1 else "Subtract the second equation from the first"
        alone, first = f"{left.latex(x)} = {right}", self.first.latex(x, y)
        yield WorkedStep("eliminate", title, (alone,), after=f"{alone}; {first}")
        value = yield from _solved(Solver(left, Polynomial(constant=right), x, broken), alone)
        # The value is substituted into the first equation as given.
        put_in = f"{x} = {number(value)}"
        left = Polynomial(linear=self.first.second, constant=self.first.first * value)
        factor = rf"{self.first.first} \times {as_factor(value)}" if self.first.first != 1 else number(value)
        alone = f"{left.latex(y)} = {self.first.right}"
        lines = (f"{factor} {self.first.second_term(y)} = {self.first.right}", alone)
        title, before, after = f"Put ${put_in}$ into the first equation", f"{first}; {put_in}", f"{put_in}; {alone}"
        yield WorkedStep("substitute", title, lines, before=before, after=after)
        second = yield from _solved(Solver(left, Polynomial(constant=self.first.right), y, broken), alone)
        return rf"{put_in} \text{{ and }} {y} = {number(second)}", ((value, second),)

    def _both(self, one: Line, other: Line) -> str:
        return f"{one.latex(*self.unknowns)}; {other.latex(*self.unknowns)}"


def _solved(solver: Solver, before: str) -> Work[Rational]:
    """Solve one equation; the first step's `before` is the argument `before`."""
    steps, value = collected(solver.linear())
    yield from (replace(step, before=None if i else before) for i, step in enumerate(steps))
    return value


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> System:
    """Generate a system with a whole-number solution."""
    ranges, limit = RANGES[difficulty], max(4, RANGES[difficulty].factor // 2)
    while True:
        a, b, c, d = (rng.choice((-1, 1, 1)) * rng.randint(1, limit) for _ in range(4))
        if a * d != b * c:
            break
    x, y = (rng.randint(-ranges.solution, ranges.solution) for _ in range(2))
    return System(Line(a, b, a * x + b * y), Line(c, d, c * x + d * y), rng.choice(UNKNOWNS))
