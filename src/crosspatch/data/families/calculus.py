"""Derivatives and antiderivatives of polynomials."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Literal

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Derivation, Exercise, Show, WorkedStep
from crosspatch.data.marks import mark
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Rational, divided, number, signed_sum, size
from crosspatch.data.styles import plain

UNKNOWNS = "xtzu"
_LARGEST: dict[Difficulty, tuple[int, int]] = {"easy": (6, 3), "medium": (12, 5), "hard": (30, 8)}

WORDINGS: dict[str, tuple[str, ...]] = {
    "derivative": (
        "Differentiate f({x}) = {f}.",
        "What is the derivative of f({x}) = {f}?",
        "Find f'({x}) for f({x}) = {f}.",
        "Calculate the derivative of {f} with respect to {x}.",
        "Given f({x}) = {f}, what is f'({x})?",
    ),
    "integral": (
        "Find ∫ ({f}) d{x}.",
        "Work out the indefinite integral ∫ ({f}) d{x}.",
        "What is the antiderivative of f({x}) = {f}?",
        "Integrate f({x}) = {f}.",
        "Calculate ∫ ({f}) d{x}.",
    ),
}

# Terms of a polynomial by falling powers: (coefficient, power).
Terms = tuple[tuple[Rational, int], ...]


@dataclass(frozen=True)
class PolynomialRule(Exercise):
    """The derivative or an antiderivative of a polynomial."""

    terms: Terms
    wanted: Literal["derivative", "integral"]
    unknown: str

    @property
    def key(self) -> Hashable:
        """What is wanted of which polynomial."""
        return self.wanted, self.terms

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        written = plain(_latex(self.terms, self.unknown))
        return rng.choice(WORDINGS[self.wanted]).format(f=written, x=self.unknown)

    def admits(self, value: Hashable) -> bool:
        """Whether f(x + h) - f(x) is h·f'(x) up to h², at more points than the degree."""
        if not isinstance(value, tuple):
            return False
        f, slope = (self.terms, value) if self.wanted == "derivative" else (value, self.terms)
        # All denominators are taken out, so that the remainder can be looked at in whole numbers.
        common = 1
        for coefficient, _ in (*f, *slope):
            common *= coefficient.denominator
        h = 10**12
        for x in range(12):
            change = int(common * (_at(f, x + h) - _at(f, x)))
            if (change - h * int(common * _at(slope, x))) % (h * h):
                return False
        return True

    def solve(self, rules: Rules) -> Derivation:
        """The power rule for each term, then tidied up."""
        x, broken = self.unknown, rules.broken("power")
        unfinished, result, marked = [], [], []
        for coefficient, power in self.terms:
            if self.wanted == "derivative":
                if not power:
                    continue
                new, right = power if broken else power - 1, power - 1
                value: Rational = coefficient * power
                raw = rf"{power} \cdot {number(size(coefficient))}" if power > 1 else number(size(coefficient))
            else:
                new, right = power if broken else power + 1, power + 1
                value = divided(coefficient, power + 1)
                top = number(size(coefficient))
                raw = rf"\frac{{{top}}}{{{power + 1}}}" if power else top if top != "1" or not new else ""
            wrong = new != right
            unfinished.append((coefficient < 0, raw + _power(x, new, wrong)))
            result.append((value, new))
            marked.append(wrong)
        constant = " + C" if self.wanted == "integral" else ""
        lines = ((signed_sum(unfinished) or "0") + constant, _latex(tuple(result), x, marked) + constant)
        verb = "Differentiate" if self.wanted == "derivative" else "Integrate"
        title = f"{verb} each term by the power rule"
        relation: Literal["derivative", "antiderivative"] = "derivative" if not constant else "antiderivative"
        steps = (
            WorkedStep("power_rule", title, (Show(lines[0]),), planted=any(marked), relation=relation),
            WorkedStep("simplify", "Simplify", (Show(lines[1]),), relation="value"),
        )
        answer = _latex(tuple(result), x) + constant
        label = "We differentiate" if self.wanted == "derivative" else "We integrate"
        return Derivation(_latex(self.terms, x), label, steps, answer, (tuple(result),))


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> PolynomialRule:
    """A polynomial of two to four terms; antiderivatives may have fractions."""
    wanted: Literal["derivative", "integral"] = "derivative" if form == "derivative" else "integral"
    size, degree = _LARGEST[difficulty]
    powers = sorted(rng.sample(range(degree + 1), rng.choice((2, 3, 3, 4))), reverse=True)
    powers[0] = max(powers[0], 2)
    terms = tuple((rng.choice((-1, 1, 1)) * rng.randint(1, size), power) for power in powers)
    return PolynomialRule(terms, wanted, rng.choice(UNKNOWNS))


def _at(terms: Terms, x: int) -> Fraction:
    return sum((Fraction(coefficient) * x**power for coefficient, power in terms), Fraction(0))


def _power(x: str, power: int, wrong: bool = False) -> str:
    """`x^{3}`, `x`, or nothing; the exponent marked where it is wrong."""
    if not power:
        return ""
    if power == 1:
        return mark("number", x, wrong)
    return f"{x}^{{{mark('number', str(power), wrong)}}}"


def _latex(terms: Terms, x: str, marked: Sequence[bool] = ()) -> str:
    """`3x^{4} - x + 2`."""
    parts = []
    for i, (coefficient, power) in enumerate(terms):
        positive = size(coefficient)
        tail = _power(x, power, bool(marked) and marked[i])
        parts.append((coefficient < 0, tail if positive == 1 and power else number(positive) + tail))
    return signed_sum(parts) or "0"
