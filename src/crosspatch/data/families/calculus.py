"""Derivatives and antiderivatives of polynomials."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import ClassVar

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Exercise, Solving, WorkedStep
from crosspatch.data.latex import Rational, mark, number, signed_sum, size
from crosspatch.data.mistakes import Broken
from crosspatch.data.polynomial import divided
from crosspatch.data.problem import Relation

UNKNOWNS = "xtzu"
_LARGEST: dict[Difficulty, tuple[int, int]] = {"easy": (6, 3), "medium": (12, 5), "hard": (30, 8)}

# A polynomial's terms (coefficient, power), highest power first.
Terms = tuple[tuple[Rational, int], ...]


@dataclass(frozen=True)
class Derivative(Exercise):
    """The derivative of a polynomial."""

    terms: Terms
    unknown: str = field(compare=False)

    wordings = (
        "Differentiate f({unknown}) = {given}.",
        "What is the derivative of f({unknown}) = {given}?",
        "Find f'({unknown}) for f({unknown}) = {given}.",
        "Calculate the derivative of {given} with respect to {unknown}.",
        "Given f({unknown}) = {given}, what is f'({unknown})?",
    )
    label = "We differentiate"
    relation: ClassVar[Relation] = "derivative"
    tag: ClassVar[tuple[str, ...]] = ("derivative",)
    verb: ClassVar[str] = "Differentiate"

    def _given(self) -> str:
        return _latex(self.terms, self.unknown)

    def admits(self, value: Terms) -> bool:
        """Whether the value is the polynomial's derivative."""
        return _is_slope(value, self.terms)

    def _work(self, broken: Broken) -> Solving:
        """Apply the power rule to each term, then simplify."""
        x, wrong = self.unknown, "power" in broken
        constant = " + C" if self.relation == "antiderivative" else ""
        unfinished, result = [], []
        for coefficient, power in self.terms:
            if raw_and_term := self._term(coefficient, power, wrong):
                raw, term = raw_and_term
                unfinished.append((coefficient < 0, raw + _power(x, term[1], wrong)))
                result.append(term)
        title = f"{self.verb} each term by the power rule"
        yield WorkedStep("power_rule", title, ((signed_sum(unfinished) or "0") + constant,))
        line = _latex(tuple(result), x, wrong) + constant
        yield WorkedStep("simplify", "Simplify", (line,), relation="value", repeats=True)
        return _latex(tuple(result), x) + constant, (tuple(result),)

    def _term(self, coefficient: Rational, power: int, wrong: bool) -> tuple[str, tuple[Rational, int]] | None:
        """Return a term's new coefficient as an unsimplified product, and the new term; None for a constant."""
        if not power:
            return None
        raw = number(size(coefficient))
        return rf"{power} \cdot {raw}" if power > 1 else raw, (coefficient * power, power if wrong else power - 1)


class Antiderivative(Derivative):
    """An antiderivative of a polynomial."""

    wordings = (
        "Find ∫ ({given}) d{unknown}.",
        "Work out the indefinite integral ∫ ({given}) d{unknown}.",
        "What is the antiderivative of f({unknown}) = {given}?",
        "Integrate f({unknown}) = {given}.",
        "Calculate ∫ ({given}) d{unknown}.",
    )
    label, relation = "We integrate", "antiderivative"
    tag, verb = ("integral",), "Integrate"

    def admits(self, value: Terms) -> bool:
        """Whether the value's derivative is the polynomial."""
        return _is_slope(self.terms, value)

    def _term(self, coefficient: Rational, power: int, wrong: bool) -> tuple[str, tuple[Rational, int]]:
        new, raw = power if wrong else power + 1, number(size(coefficient))
        if power:
            raw = rf"\frac{{{raw}}}{{{power + 1}}}"
        elif raw == "1" and new:
            raw = ""
        return raw, (divided(coefficient, power + 1), new)


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Derivative:
    """Generate a polynomial of two to four terms; antiderivatives may have fractions."""
    largest, degree = _LARGEST[difficulty]
    powers = sorted(rng.sample(range(degree + 1), rng.choice((2, 3, 3, 4))), reverse=True)
    powers[0] = max(powers[0], 2)
    terms = tuple((rng.choice((-1, 1, 1)) * rng.randint(1, largest), power) for power in powers)
    return (Derivative if form == "derivative" else Antiderivative)(terms, rng.choice(UNKNOWNS))


def _is_slope(slope: Terms, f: Terms) -> bool:
    """Whether f(x + h) - f(x) is h·slope(x) up to terms in h², at more points than the degree."""
    # Multiply by the common denominator, so that remainders are of whole numbers.
    common = math.lcm(*(coefficient.denominator for coefficient, _ in (*f, *slope)))
    h = 10**12
    return all(
        (int(common * (_at(f, x + h) - _at(f, x))) - h * int(common * _at(slope, x))) % (h * h) == 0 for x in range(12)
    )


def _at(terms: Terms, x: int) -> Fraction:
    return sum((Fraction(coefficient) * x**power for coefficient, power in terms), Fraction(0))


def _power(x: str, power: int, wrong: bool = False) -> str:
    """Format `x^{3}`, `x`, or nothing, with the exponent marked if it is wrong."""
    if power < 2:
        return mark("number", x, wrong) if power else ""
    return f"{x}^{{{mark('number', str(power), wrong)}}}"


def _latex(terms: Terms, x: str, wrong: bool = False) -> str:
    """Format a polynomial, such as `3x^{4} - x + 2`."""
    parts = []
    for coefficient, power in terms:
        factor = "" if abs(coefficient) == 1 and power else number(size(coefficient))
        parts.append((coefficient < 0, factor + _power(x, power, wrong)))
    return signed_sum(parts) or "0"
