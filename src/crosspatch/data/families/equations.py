"""Linear and quadratic equations of the paper's forms, and with brackets and fractions."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Derivation, Exercise, Real, Surd, WorkedStep, shown
from crosspatch.data.families.solving import RANGES, UNKNOWNS, LinearSteps, Ranges, solved_quadratic
from crosspatch.data.marks import mark
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Polynomial, Rational, number

WORDINGS = (
    "Solve for {x}: {equation}",
    "If {equation} what is {x}?",
    "{equation}. Solve for {x}.",
    "Solve the equation {equation} for {x}.",
    "Question: {equation}. Solve for {x}.",
    "Find {x} in the equation: {equation}",
    "What is the value of {x} if {equation}?",
    "Find {x}: {equation}",
    "What is {x} if {equation}?",
    "Given {equation}, find {x}.",
    "Determine {x} when {equation}.",
    "Which {x} satisfies {equation}?",
)

GIVEN = "We are given the equation"


@dataclass(frozen=True)
class Equation(Exercise):
    """left = right, in one unknown."""

    left: Polynomial
    right: Polynomial
    unknown: str

    @property
    def latex(self) -> str:
        """As it stands in a solution."""
        return f"{self.left.latex(self.unknown)} = {self.right.latex(self.unknown)}"

    @property
    def plain(self) -> str:
        """As it stands in a question."""
        return f"{self.left.plain(self.unknown)} = {self.right.plain(self.unknown)}"

    @property
    def key(self) -> Hashable:
        """Both sides, whatever the unknown."""
        return self.left, self.right

    @property
    def answers(self) -> int:
        """How many real solutions it has."""
        whole = self.left - self.right
        if not whole.square:
            return 1
        discriminant = whole.linear**2 - 4 * whole.square * whole.constant
        return 2 if discriminant > 0 else int(discriminant == 0)

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        return ask(self.plain, self.unknown, rng)

    def admits(self, value: Hashable) -> bool:
        """Whether both sides are equal there."""
        return vanishes(self.left - self.right, value)

    def solve(self, rules: Rules) -> Derivation:
        """By moving and isolating, or by factoring or the formula."""
        solver = LinearSteps(self.left, self.right, self.unknown, rules)
        roots: list[Real] = solved_quadratic(solver) if self.left.square else [solver.solved()]
        return Derivation(self.latex, GIVEN, tuple(solver.steps), solution_set(self.unknown, roots), tuple(roots))


@dataclass(frozen=True)
class Bracketed(Exercise):
    """`factor`(x + `inside`) + `outside` = `right`."""

    factor: int
    inside: int
    outside: int
    right: int
    unknown: str

    @property
    def key(self) -> Hashable:
        """All its numbers."""
        return self.factor, self.inside, self.outside, self.right

    def _equation(self) -> str:
        inner = Polynomial(linear=1, constant=self.inside).latex(self.unknown)
        outside = _behind(self.outside)
        return f"{self.factor}({inner}){outside} = {self.right}"

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        return ask(self._equation(), self.unknown, rng)

    def admits(self, value: Hashable) -> bool:
        """Whether both sides are equal there."""
        return isinstance(value, Rational) and self.factor * (value + self.inside) + self.outside == self.right

    def solve(self, rules: Rules) -> Derivation:
        """The brackets go first."""
        x, factor, product = self.unknown, self.factor, self.factor * self.inside
        wrong = rules.broken("bracket") and factor < 0
        if wrong:
            product = -product
        sides = Polynomial(linear=factor).latex(x), number(abs(product))
        sign = mark("sign", "+" if product > 0 else "-", wrong)
        outside = _behind(self.outside)
        lines = [f"{sides[0]} {sign} {sides[1]}{outside} = {self.right}"]
        left = Polynomial(linear=factor, constant=product + self.outside)
        if self.outside:
            lines.append(f"{left.latex(x, (False, False, wrong))} = {self.right}")
        expanding = WorkedStep("expand", "Remove the brackets", shown(lines), planted=wrong)
        solver = LinearSteps(left, Polynomial(constant=self.right), x, rules, steps=[expanding])
        root = solver.solved()
        return Derivation(self._equation(), GIVEN, tuple(solver.steps), solution_set(x, [root]), (root,))


@dataclass(frozen=True)
class Fractional(Exercise):
    """x/`first` + x/`second` + `constant` = `right`; the second fraction is left out where it is 0."""

    first: int
    second: int
    constant: int
    right: int
    unknown: str

    @property
    def key(self) -> Hashable:
        """Its sides as polynomials: x/2 + x/3 is x/3 + x/2."""
        factor = Fraction(1, self.first) + (Fraction(1, self.second) if self.second else 0)
        return factor, self.constant, self.right

    def _equation(self, fraction: str) -> str:
        parts = [fraction.format(x=self.unknown, n=n) for n in (self.first, self.second) if n]
        constant = _behind(self.constant)
        return f"{' + '.join(parts)}{constant} = {self.right}"

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        return ask(self._equation("{x}/{n}"), self.unknown, rng)

    def admits(self, value: Hashable) -> bool:
        """Whether both sides are equal there."""
        if not isinstance(value, Rational):
            return False
        parts = Fraction(value, self.first) + (Fraction(value, self.second) if self.second else 0)
        return parts + self.constant == self.right

    def solve(self, rules: Rules) -> Derivation:
        """Fractions are added, the constant moves, the rest is multiplied away."""
        x, factor, steps = self.unknown, Fraction(1, self.first), []
        if self.second:
            wrong = rules.broken("denominator")
            right = factor + Fraction(1, self.second)
            # Numerators and denominators by themselves; the fraction is not reduced, so that it can be seen.
            factor = Fraction(2, self.first + self.second) if wrong else right
            over, under = (2, self.first + self.second) if wrong else (right.numerator, right.denominator)
            numerator = mark("number", str(over), wrong) if over != 1 else ""
            constant = _behind(self.constant)
            fraction = rf"\frac{{{numerator}{x}}}{{{mark('number', str(under), wrong)}}}" if under != 1 else x
            lines = [f"{fraction}{constant} = {self.right}"]
            if not wrong:
                common = math.lcm(self.first, self.second)
                a, b = (common // n for n in (self.first, self.second))
                tops = [f"{n if n > 1 else ''}{x}" for n in (a, b)]
                lines.insert(0, rf"\frac{{{tops[0]} + {tops[1]}}}{{{common}}}{constant} = {self.right}")
            steps.append(WorkedStep("add_fractions", "Add the fractions", shown(lines), planted=wrong))
        left = Polynomial(linear=factor, constant=self.constant)
        solver = LinearSteps(left, Polynomial(constant=self.right), x, rules, steps=steps)
        root = solver.solved()
        given = self._equation(r"\frac{{{x}}}{{{n}}}")
        return Derivation(given, GIVEN, tuple(solver.steps), solution_set(x, [root]), (root,))


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """An equation of one form with a right answer in whole numbers, its unknown drawn too."""
    unknown, ranges = rng.choice(UNKNOWNS), RANGES[difficulty]
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


def ask(equation: str, unknown: str, rng: Random) -> str:
    """A question for an equation, in one of the wordings."""
    return rng.choice(WORDINGS).format(equation=equation, x=unknown)


def solution_set(unknown: str, roots: list[Real]) -> str:
    r"""`x = 2 \text{ or } x = -1`."""
    distinct = list(dict.fromkeys(roots))
    return r" \text{ or } ".join(f"{unknown} = {_root(root)}" for root in distinct)


def vanishes(polynomial: Polynomial, value: Hashable) -> bool:
    """Whether the polynomial is 0 there, exactly."""
    if isinstance(value, Rational):
        return polynomial.at(value) == 0
    if not isinstance(value, Surd):
        return False
    # Of p + √q both the rational part and the factor of the root have to vanish.
    p, q = Fraction(value.top, value.under), Fraction(value.square, value.under**2)
    a, b, c = polynomial.coefficients
    return a * (p * p + q) + b * p + c == 0 and 2 * a * p + b == 0


def _behind(constant: int) -> str:
    """` - 4`: a constant as it follows a term; nothing for 0."""
    return f" {'+' if constant > 0 else '-'} {abs(constant)}" if constant else ""


def _root(root: Real) -> str:
    r"""A root as it is written: `-7`, `\frac{14 + \sqrt{152}}{2}`."""
    if not isinstance(root, Surd):
        return number(root)
    sign = "-" if root.negative else "+"
    return rf"\frac{{{root.top} {sign} \sqrt{{{root.square}}}}}{{{root.under}}}"


def _linear(form: str, rng: Random, ranges: Ranges) -> tuple[Polynomial, Polynomial]:
    solution = _nonzero(rng, ranges.solution)
    a, b = rng.randint(2, ranges.factor), _nonzero(rng, ranges.constant)
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
    r, s = _nonzero(rng, ranges.root), _nonzero(rng, ranges.root)
    a = rng.choice((1, 1, 1, 2, 3))
    whole = Polynomial(a, -a * (r + s), a * r * s)
    if form == "quadratic_zero":
        return whole, Polynomial()
    linear = rng.randint(2, 9) if form == "quadratic_expression" else 0
    right = Polynomial(linear=linear, constant=_nonzero(rng, ranges.quadratic_constant))
    return whole + right, right


def _irrational(rng: Random, ranges: Ranges, unknown: str) -> Equation:
    while True:
        a, b, c = rng.choice((1, 1, 2, 3)), _nonzero(rng, 2 * ranges.root), _nonzero(rng, ranges.quadratic_constant)
        discriminant = b * b - 4 * a * c
        if discriminant > 0 and math.isqrt(discriminant) ** 2 != discriminant and math.gcd(a, b, c) == 1:
            return Equation(Polynomial(a, b, c), Polynomial(), unknown)


def _bracketed(rng: Random, ranges: Ranges, unknown: str) -> Bracketed:
    factor, inside = _nonzero(rng, ranges.factor, least=2), _nonzero(rng, ranges.solution)
    solution = _nonzero(rng, ranges.solution)
    outside = rng.choice((0, _nonzero(rng, ranges.constant)))
    return Bracketed(factor, inside, outside, factor * (solution + inside) + outside, unknown)


def _fractional(rng: Random, ranges: Ranges, unknown: str) -> Fractional:
    first = rng.randint(2, ranges.factor)
    second = rng.choice((0, rng.randint(2, ranges.factor)))
    common = math.lcm(first, second) if second else first
    solution = common * _nonzero(rng, ranges.solution)
    constant = rng.choice((0, _nonzero(rng, ranges.constant)))
    right = solution // first + (solution // second if second else 0) + constant
    return Fractional(first, second, constant, right, unknown)


def _nonzero(rng: Random, limit: int, least: int = 1) -> int:
    return rng.choice((-1, 1)) * rng.randint(least, limit)
