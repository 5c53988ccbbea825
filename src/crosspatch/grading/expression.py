r"""Computes exactly with sums of c·xⁿ·√r with rational c, which suffice for linear and quadratic equations.

Any other or very large expression raises Unreadable, so no computation takes long. `reading` parses such sums, and
`equation` solves equations of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from crosspatch.data.latex import Rational
from crosspatch.data.polynomial import Polynomial

_LARGEST_POWER = 8
_BITS = 200  # the maximum for a numerator or denominator
_LARGEST_RADICAND = 10**15  # its square factors are found by trial division up to its cube root


class Unreadable(ValueError):
    """The text is not an expression of this form, or the expression is too large."""


@dataclass(frozen=True)
class Expression:
    """Σ c·xⁿ·√r, as sorted (n, r, c); r has no square factor, and √r is i·√|r| if r is negative."""

    terms: tuple[tuple[int, int, Rational], ...] = ()

    @classmethod
    def of(cls, terms: Iterable[tuple[int, int, Rational]]) -> Expression:
        """Return the sum of terms in any order; raises Unreadable if it is too large."""
        sums: dict[tuple[int, int], Rational] = {}
        for power, radicand, size in terms:
            sums[power, radicand] = sums.get((power, radicand), 0) + size
        kept = tuple((*key, _whole(size)) for key, size in sorted(sums.items()) if size)
        if len(kept) > 12 or any(
            power > _LARGEST_POWER or abs(size.numerator).bit_length() > _BITS or size.denominator.bit_length() > _BITS
            for power, _, size in kept
        ):
            raise Unreadable
        return cls(kept)

    @classmethod
    def constant(cls, size: Rational) -> Expression:
        """Return a rational number as an expression."""
        return cls(((0, 1, _whole(size)),) if size else ())

    @property
    def degree(self) -> int:
        """The highest power of the unknown."""
        return max((power for power, _, _ in self.terms), default=0)

    @property
    def rational(self) -> Fraction | None:
        """The expression's value if it is a rational number, else None."""
        if not self.terms:
            return Fraction(0)
        power, radicand, size = self.terms[0]
        return Fraction(size) if len(self.terms) == 1 and (power, radicand) == (0, 1) else None

    @property
    def polynomial(self) -> Polynomial | None:
        """The expression as a polynomial up to degree two with rational coefficients; None if it is not one."""
        square, linear, constant = (self.coefficient(power).rational for power in (2, 1, 0))
        if self.degree > 2 or square is None or linear is None or constant is None:
            return None
        return Polynomial(square, linear, constant)

    def coefficient(self, power: int) -> Expression:
        """Return the coefficient of a power of the unknown."""
        return Expression(tuple((0, radicand, size) for n, radicand, size in self.terms if n == power))

    def __add__(self, other: Expression) -> Expression:
        return Expression.of((*self.terms, *other.terms))

    def __neg__(self) -> Expression:
        return Expression(tuple((power, radicand, -size) for power, radicand, size in self.terms))

    def __sub__(self, other: Expression) -> Expression:
        return self + -other

    def __mul__(self, other: Expression) -> Expression:
        return Expression.of(
            (n + m, *_product_of_roots(r, s, a * b)) for n, r, a in self.terms for m, s, b in other.terms
        )

    def __truediv__(self, other: Expression) -> Expression:
        """Divide; raises Unreadable for division by 0, by an unknown or by a sum of several roots."""
        if other.degree or not 1 <= len(other.terms) <= 2:
            raise Unreadable
        if len(other.terms) == 1:
            _, radicand, size = other.terms[0]
            return self * Expression(((0, radicand, _whole(Fraction(1) / (size * radicand))),))
        # (a + b)(a - b) is rational if a is rational and b is a root, and also if both are roots.
        first, second = (Expression((term,)) for term in other.terms)
        return self * (first - second) / (first * first - second * second)

    def __pow__(self, power: int) -> Expression:
        if not 0 <= power <= _LARGEST_POWER:
            raise Unreadable
        result = Expression.constant(1)
        for _ in range(power):
            result = result * self
        return result

    def sqrt(self) -> Expression:
        """Return the square root of a rational number; raises Unreadable for anything else."""
        number = self.rational
        if number is None:
            raise Unreadable
        if not number:
            return self
        outside, inside = without_squares(number.numerator * number.denominator)
        return Expression(((0, inside, _whole(Fraction(outside, number.denominator))),))

    def approximate(self) -> complex:
        """Return the floating-point value of an expression without an unknown."""
        if self.degree:
            raise Unreadable
        return sum((float(size) * complex(radicand) ** 0.5 for _, radicand, size in self.terms), 0j)

    def latex(self) -> str:
        r"""Format an expression without an unknown: `\frac{17}{2} - \frac{1}{2}\sqrt{227}`."""
        text = ""
        for _, radicand, size in self.terms:
            whole = -size if size < 0 else size
            number = str(whole) if whole.denominator == 1 else rf"\frac{{{whole.numerator}}}{{{whole.denominator}}}"
            root = "" if radicand == 1 else rf"\sqrt{{{radicand}}}"
            sign = "-" if size < 0 else "+"
            text += f" {sign} " + (root if root and whole == 1 else number + root)
        return f"-{text[3:]}" if text.startswith(" - ") else text[3:] or "0"


UNKNOWN = Expression(((1, 1, 1),))


def _whole(size: Rational) -> Rational:
    """Return the value as an int if it is whole: ints are ten times faster than fractions and compare equal to them."""
    return size.numerator if size.denominator == 1 else size


def _product_of_roots(r: int, s: int, size: Rational) -> tuple[int, Rational]:
    """Return √r·√s times `size` as a single root: (radicand, size)."""
    common = math.gcd(r, s)
    both_imaginary = r < 0 and s < 0
    return (r // common) * (s // common), -size * common if both_imaginary else size * common


@lru_cache(maxsize=1024)
def without_squares(number: int) -> tuple[int, int]:
    """Return (s, r) with number = s²·r and r square-free; raises Unreadable for large numbers that are no square."""
    rest = abs(number)
    root = math.isqrt(rest)
    sign = 1 if number > 0 else -1
    if root * root == rest:
        return root, sign
    if rest > _LARGEST_RADICAND:
        raise Unreadable
    outside, inside, p = 1, sign, 2
    while p * p * p <= rest:
        while rest % (p * p) == 0:
            outside, rest = outside * p, rest // (p * p)
        if rest % p == 0:
            inside, rest = inside * p, rest // p
        p += 1 if p == 2 else 2
    # The remaining factor is 1, a prime, a prime's square, or a product of two primes.
    root = math.isqrt(rest)
    return (outside * root, inside) if root * root == rest else (outside, inside * rest)
