"""Equations of the paper's forms, linear equations with brackets and fractions, and linear inequalities."""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import Any, ClassVar

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Exercise, Solving, WorkedStep
from crosspatch.data.families.solving import RANGES, UNKNOWNS, Ranges, Real, Solver, Surd, nonzero, vanishes
from crosspatch.data.latex import Rational, mark, number
from crosspatch.data.mistakes import Broken
from crosspatch.data.polynomial import Polynomial

SIGNS = {"<": operator.lt, ">": operator.gt, r"\leq": operator.le, r"\geq": operator.ge}


class _InOneUnknown(Exercise):
    wordings: ClassVar[tuple[str, ...]] = (
        "Solve for {unknown}: {given}",
        "If {given} what is {unknown}?",
        "{given}. Solve for {unknown}.",
        "Solve the equation {given} for {unknown}.",
        "Question: {given}. Solve for {unknown}.",
        "Find {unknown} in the equation: {given}",
        "What is the value of {unknown} if {given}?",
        "Find {unknown}: {given}",
        "What is {unknown} if {given}?",
        "Given {given}, find {unknown}.",
        "Determine {unknown} when {given}.",
        "Which {unknown} satisfies {given}?",
    )
    label = "We are given the equation"


@dataclass(frozen=True)
class Equation(_InOneUnknown):
    """An equation left = right in one unknown."""

    left: Polynomial
    right: Polynomial
    unknown: str = field(compare=False)
    sign: str = field(default="=", compare=False, kw_only=True)

    def _given(self) -> str:
        return f"{self.left.latex(self.unknown)} {self.sign} {self.right.latex(self.unknown)}"

    @property
    def answers(self) -> int:
        """The number of real solutions."""
        a, b, c = (self.left - self.right).coefficients
        discriminant = b * b - 4 * a * c
        return 1 if not a else 2 if discriminant > 0 else int(discriminant == 0)

    def admits(self, value: Any) -> bool:
        """Whether both sides are equal at the value."""
        return vanishes(self.left - self.right, value)

    def _work(self, broken: Broken) -> Solving:
        solver = Solver(self.left, self.right, self.unknown, broken)
        if not self.left.square:
            return _solution_set(self.unknown, [(yield from solver.linear())])
        return _solution_set(self.unknown, (yield from solver.quadratic()))


@dataclass(frozen=True)
class Inequality(Equation):
    """An inequality left < right, or with another sign, in one unknown."""

    sign: str = field(kw_only=True)

    wordings = (
        "Solve the inequality {given}.",
        "For which {unknown} is {given}?",
        "Solve for {unknown}: {given}",
        "Find all {unknown} with {given}.",
        "Which values of {unknown} satisfy {given}?",
        "What has to hold for {unknown} so that {given}?",
    )
    label = "We are given the inequality"

    def admits(self, value: tuple[str, Rational]) -> bool:
        """Whether (sign, bound) agrees with the inequality at three points: the bound, and one on either side of it."""
        sign, bound = value
        return all(
            SIGNS[self.sign](self.left.at(point), self.right.at(point)) == SIGNS[sign](point, bound)
            for point in (bound - 1, bound, bound + 1)
        )

    def _work(self, broken: Broken) -> Solving:
        solver = Solver(self.left, self.right, self.unknown, broken, self.sign)
        bound = yield from solver.linear()
        return f"{self.unknown} {solver.sign} {number(bound)}", ((solver.sign, bound),)


@dataclass(frozen=True)
class Bracketed(_InOneUnknown):
    """`factor`(x + `inside`) + `outside` = `right`."""

    factor: int
    inside: int
    outside: int
    right: int
    unknown: str = field(compare=False)

    def _given(self) -> str:
        inner = Polynomial(linear=1, constant=self.inside).latex(self.unknown)
        return f"{self.factor}({inner}){_behind(self.outside)} = {self.right}"

    def admits(self, value: Rational) -> bool:
        """Whether both sides are equal at the value."""
        return self.factor * (value + self.inside) + self.outside == self.right

    def _work(self, broken: Broken) -> Solving:
        x, product = self.unknown, self.factor * self.inside
        wrong = "bracket" in broken and self.factor < 0
        if wrong:
            product = -product
        sign = mark("sign", "+" if product > 0 else "-", wrong)
        term = Polynomial(linear=self.factor).latex(x)
        lines = [f"{term} {sign} {abs(product)}{_behind(self.outside)} = {self.right}"]
        left = Polynomial(linear=self.factor, constant=product + self.outside)
        if self.outside:
            lines.append(f"{left.latex(x, (False, False, wrong))} = {self.right}")
        yield WorkedStep("expand", "Remove the brackets", tuple(lines))
        return _solution_set(x, [(yield from Solver(left, Polynomial(constant=self.right), x, broken).linear())])


@dataclass(frozen=True)
class Fractional(_InOneUnknown):
    """x/`first` + x/`second` + `constant` = `right`; if `second` is 0, there is only one fraction."""

    first: int
    second: int
    constant: int
    right: int
    unknown: str = field(compare=False)

    @property
    def _factor(self) -> Fraction:
        return sum((Fraction(1, n) for n in (self.first, self.second) if n), Fraction())

    @property
    def key(self) -> Hashable:
        """The sides as polynomials, so x/2 + x/3 and x/3 + x/2 have the same key."""
        return self._factor, self.constant, self.right

    def _given(self) -> str:
        fractions = (rf"\frac{{{self.unknown}}}{{{n}}}" for n in (self.first, self.second) if n)
        return f"{' + '.join(fractions)}{_behind(self.constant)} = {self.right}"

    def admits(self, value: Rational) -> bool:
        """Whether both sides are equal at the value."""
        return sum(Fraction(value) / n for n in (self.first, self.second) if n) + self.constant == self.right

    def _work(self, broken: Broken) -> Solving:
        x, factor = self.unknown, self._factor
        if self.second:
            wrong, end = "denominator" in broken, f"{_behind(self.constant)} = {self.right}"
            over, under, lines = factor.numerator, factor.denominator, []
            if wrong:
                # The fraction is not reduced, so that the mistake shows.
                over, under = 2, self.first + self.second
                factor = Fraction(over, under)
            else:
                common = math.lcm(self.first, self.second)
                tops = " + ".join(Polynomial(linear=common // n).latex(x) for n in (self.first, self.second))
                lines.append(rf"\frac{{{tops}}}{{{common}}}{end}")
            numerator = mark("number", str(over), wrong) if over != 1 else ""
            fraction = rf"\frac{{{numerator}{x}}}{{{mark('number', str(under), wrong)}}}" if under != 1 else x
            yield WorkedStep("add_fractions", "Add the fractions", (*lines, fraction + end))
        solver = Solver(Polynomial(linear=factor, constant=self.constant), Polynomial(constant=self.right), x, broken)
        return _solution_set(x, [(yield from solver.linear())])


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """Generate an equation or inequality of a form, with a whole-number answer and a random unknown."""
    ranges = RANGES[difficulty]
    if form == "inequality":
        return _inequality(rng, ranges)
    unknown = rng.choice(UNKNOWNS)
    match form:
        case "linear_brackets":
            return _bracketed(rng, ranges, unknown)
        case "linear_fractions":
            return _fractional(rng, ranges, unknown)
        case "quadratic_formula":
            return _irrational(rng, ranges, unknown)
        case "linear_one_step" | "linear_two_step" | "linear_both_sides":
            return Equation(*_linear(form, rng, ranges), unknown)
        case _:
            return Equation(*_factorable(form, rng, ranges), unknown)


def _solution_set(unknown: str, roots: list[Real]) -> tuple[str, tuple[Real, ...]]:
    r"""Return `x = 2 \text{ or } x = -1`, and the roots."""
    return r" \text{ or } ".join(f"{unknown} = {_root(root)}" for root in dict.fromkeys(roots)), tuple(roots)


def _behind(constant: int) -> str:
    """Format a constant after a term, such as ` - 4`; empty for 0."""
    return f" {'+' if constant > 0 else '-'} {abs(constant)}" if constant else ""


def _root(root: Real) -> str:
    r"""Format a root in LaTeX: `-7`, `\frac{14 + \sqrt{152}}{2}`."""
    if not isinstance(root, Surd):
        return number(root)
    return rf"\frac{{{root.top} {'-' if root.negative else '+'} \sqrt{{{root.square}}}}}{{{root.under}}}"


def _linear(form: str, rng: Random, ranges: Ranges) -> tuple[Polynomial, Polynomial]:
    solution = nonzero(rng, ranges.solution)
    a, b = rng.randint(2, ranges.factor), nonzero(rng, ranges.constant)
    if form == "linear_one_step":
        if rng.random() < 0.5:
            return Polynomial(linear=a), Polynomial(constant=a * solution)
        return Polynomial(linear=1, constant=b), Polynomial(constant=solution + b)
    left = Polynomial(linear=a, constant=b)
    if form == "linear_two_step":
        return left, Polynomial(constant=a * solution + b)
    c = rng.choice([c for c in range(2, ranges.factor + 1) if c != a])
    return left, Polynomial(linear=c, constant=(a - c) * solution + b)


def _factorable(form: str, rng: Random, ranges: Ranges) -> tuple[Polynomial, Polynomial]:
    r, s = nonzero(rng, ranges.root), nonzero(rng, ranges.root)
    a = rng.choice((1, 1, 1, 2, 3))
    whole = Polynomial(a, -a * (r + s), a * r * s)
    if form == "quadratic_zero":
        return whole, Polynomial()
    linear = rng.randint(2, 9) if form == "quadratic_expression" else 0
    right = Polynomial(linear=linear, constant=nonzero(rng, ranges.quadratic_constant))
    return whole + right, right


def _irrational(rng: Random, ranges: Ranges, unknown: str) -> Equation:
    while True:
        a, b, c = rng.choice((1, 1, 2, 3)), nonzero(rng, 2 * ranges.root), nonzero(rng, ranges.quadratic_constant)
        discriminant = b * b - 4 * a * c
        if discriminant > 0 and math.isqrt(discriminant) ** 2 != discriminant and math.gcd(a, b, c) == 1:
            return Equation(Polynomial(a, b, c), Polynomial(), unknown)


def _bracketed(rng: Random, ranges: Ranges, unknown: str) -> Bracketed:
    factor, inside = nonzero(rng, ranges.factor, least=2), nonzero(rng, ranges.solution)
    solution = nonzero(rng, ranges.solution)
    outside = rng.choice((0, nonzero(rng, ranges.constant)))
    return Bracketed(factor, inside, outside, factor * (solution + inside) + outside, unknown)


def _fractional(rng: Random, ranges: Ranges, unknown: str) -> Fractional:
    first = rng.randint(2, ranges.factor)
    second = rng.choice((0, rng.randint(2, ranges.factor)))
    common = math.lcm(first, second) if second else first
    solution = common * nonzero(rng, ranges.solution)
    constant = rng.choice((0, nonzero(rng, ranges.constant)))
    right = solution // first + (solution // second if second else 0) + constant
    return Fractional(first, second, constant, right, unknown)


def _inequality(rng: Random, ranges: Ranges) -> Inequality:
    factor = nonzero(rng, ranges.factor, least=2)
    # A bound of 0 would hide a mistake: -7y > 0 and -3y > 0 have the same solutions.
    bound, constant = nonzero(rng, ranges.solution), nonzero(rng, ranges.constant)
    other = rng.choice((0, rng.choice([c for c in range(-ranges.factor, ranges.factor + 1) if c not in (0, factor)])))
    left = Polynomial(linear=factor, constant=constant)
    right = Polynomial(linear=other, constant=(factor - other) * bound + constant)
    sign = rng.choice([*SIGNS])
    return Inequality(left, right, rng.choice(UNKNOWNS), sign=sign)
