"""Polynomials up to degree two with exact coefficients, used as the sides of equations."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from crosspatch.data.latex import Rational, mark, number, signed_sum, size

NO_MARKS = (False, False, False)


@dataclass(frozen=True)
class Polynomial:
    """`square`·x² + `linear`·x + `constant`."""

    square: Rational = 0
    linear: Rational = 0
    constant: Rational = 0

    @property
    def coefficients(self) -> tuple[Rational, Rational, Rational]:
        """The coefficients of x², x and 1."""
        return self.square, self.linear, self.constant

    @property
    def leading(self) -> Rational:
        """The coefficient of the highest power; 0 for the zero polynomial."""
        return self.square or self.linear or self.constant

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial(self.square + other.square, self.linear + other.linear, self.constant + other.constant)

    def __neg__(self) -> Polynomial:
        return Polynomial(-self.square, -self.linear, -self.constant)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def __truediv__(self, divisor: Rational) -> Polynomial:
        return Polynomial(*(divided(c, divisor) for c in self.coefficients))

    def __bool__(self) -> bool:
        return bool(self.leading)

    def at(self, value: Rational) -> Rational:
        """Return the polynomial's value at `value`."""
        return (self.square * value + self.linear) * value + self.constant

    def latex(self, unknown: str, marked: tuple[bool, bool, bool] = NO_MARKS) -> str:
        """Format like the paper's solutions: `3x^2 - x - 155`; `marked` coefficients are marked as wrong numbers."""
        terms = []
        powers = f"{unknown}^2", unknown, ""
        for coefficient, power, wrong in zip(self.coefficients, powers, marked, strict=True):
            if coefficient:
                one = power and abs(coefficient) == 1
                term = mark("number", power if one else number(size(coefficient)), wrong) + ("" if one else power)
                terms.append((coefficient < 0, term))
        return signed_sum(terms) or mark("number", "0", any(marked))


def divided(value: Rational, divisor: Rational) -> Rational:
    """Return the exact quotient, as an int if it is whole."""
    quotient = Fraction(value) / divisor
    return quotient.numerator if quotient.denominator == 1 else quotient
