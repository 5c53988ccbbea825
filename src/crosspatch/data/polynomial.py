"""Polynomials up to degree two with exact coefficients: the sides of our equations, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from crosspatch.data.marks import mark

# Whole numbers stay ints: they are ten times faster than fractions and compare equal to them.
Rational = int | Fraction

NO_MARKS = (False, False, False)


@dataclass(frozen=True)
class Polynomial:
    """`square`·x² + `linear`·x + `constant`."""

    square: Rational = 0
    linear: Rational = 0
    constant: Rational = 0

    @property
    def coefficients(self) -> tuple[Rational, Rational, Rational]:
        """Of x², x and 1."""
        return self.square, self.linear, self.constant

    @property
    def leading(self) -> Rational:
        """The coefficient of the highest power that is there; 0 for the zero polynomial."""
        return self.square or self.linear or self.constant

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial(self.square + other.square, self.linear + other.linear, self.constant + other.constant)

    def __neg__(self) -> Polynomial:
        return Polynomial(-self.square, -self.linear, -self.constant)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return Polynomial(self.square - other.square, self.linear - other.linear, self.constant - other.constant)

    def __truediv__(self, divisor: Rational) -> Polynomial:
        return Polynomial(*(divided(c, divisor) for c in self.coefficients))

    def __bool__(self) -> bool:
        return bool(self.square or self.linear or self.constant)

    def at(self, value: Rational) -> Rational:
        """Its value where the unknown is `value`."""
        return (self.square * value + self.linear) * value + self.constant

    def latex(self, unknown: str, marked: tuple[bool, bool, bool] = NO_MARKS) -> str:
        """`3x^2 - x - 155`, as in the paper's solutions; the `marked` coefficients are marked as wrong numbers."""
        return self._written((f"{unknown}^2", unknown, ""), marked)

    def plain(self, unknown: str) -> str:
        """`3x² - x - 155`, as in the paper's questions."""
        return self._written((f"{unknown}²", unknown, ""), NO_MARKS)

    def _written(self, powers: tuple[str, str, str], marked: tuple[bool, bool, bool]) -> str:
        terms = []
        for coefficient, power, wrong in zip(self.coefficients, powers, marked, strict=True):
            if not coefficient:
                continue
            if coefficient in {1, -1} and power:
                term = mark("number", power, wrong)
            else:
                term = mark("number", number(size(coefficient)), wrong) + power
            terms.append((coefficient < 0, term))
        return signed_sum(terms) or mark("number", "0", any(marked))


def number(value: Rational) -> str:
    r"""A number in LaTeX: `-7`, `\frac{3}{2}`."""
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def signed_sum(terms: Sequence[tuple[bool, str]]) -> str:
    """`-3x + 2` of terms without signs, each with whether it is negative; empty where there is none."""
    text = ""
    for negative, term in terms:
        if text:
            text += f" - {term}" if negative else f" + {term}"
        else:
            text = f"-{term}" if negative else term
    return text


def size(value: Rational) -> Rational:
    """Without its sign."""
    return -value if value < 0 else value


def signed(term: str) -> tuple[str, str]:
    """Sign and size of a written term, as they follow another: `-3x` is ("-", "3x")."""
    return ("-", term[1:]) if term.startswith("-") else ("+", term)


def bracketed(value: Rational) -> str:
    """A number as a factor: a negative one in brackets."""
    return f"({number(value)})" if value < 0 else number(value)


def divided(value: Rational, divisor: Rational) -> Rational:
    """The exact quotient, as an int where it is whole."""
    quotient = Fraction(value) / divisor
    return quotient.numerator if quotient.denominator == 1 else quotient
