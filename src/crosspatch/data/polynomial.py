"""Polynomials up to degree two with exact coefficients: the sides of our equations, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Polynomial:
    """`square`·x² + `linear`·x + `constant`."""

    square: Fraction = Fraction(0)
    linear: Fraction = Fraction(0)
    constant: Fraction = Fraction(0)

    @classmethod
    def of(cls, square: int = 0, linear: int = 0, constant: int = 0) -> Polynomial:
        """From whole numbers."""
        return cls(Fraction(square), Fraction(linear), Fraction(constant))

    @property
    def coefficients(self) -> tuple[Fraction, Fraction, Fraction]:
        """Of x², x and 1."""
        return self.square, self.linear, self.constant

    @property
    def leading(self) -> Fraction:
        """The coefficient of the highest power that is there; 0 for the zero polynomial."""
        return next((c for c in self.coefficients if c), Fraction(0))

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial(*(a + b for a, b in zip(self.coefficients, other.coefficients, strict=True)))

    def __neg__(self) -> Polynomial:
        return Polynomial(*(-a for a in self.coefficients))

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def __truediv__(self, divisor: Fraction) -> Polynomial:
        return Polynomial(*(a / divisor for a in self.coefficients))

    def __bool__(self) -> bool:
        return any(self.coefficients)

    def latex(self, unknown: str) -> str:
        """`3x^2 - x - 155`, as in the paper's solutions."""
        return self._written((f"{unknown}^2", unknown, ""))

    def plain(self, unknown: str) -> str:
        """`3x² - x - 155`, as in the paper's questions."""
        return self._written((f"{unknown}²", unknown, ""))

    def _written(self, powers: tuple[str, str, str]) -> str:
        text = ""
        for coefficient, power in zip(self.coefficients, powers, strict=True):
            if not coefficient:
                continue
            size = abs(coefficient)
            term = power if power and size == 1 else f"{number(size)}{power}"
            if text:
                text += f" - {term}" if coefficient < 0 else f" + {term}"
            else:
                text = f"-{term}" if coefficient < 0 else term
        return text or "0"


def number(value: Fraction) -> str:
    r"""A number in LaTeX: `-7`, `\frac{3}{2}`."""
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"
