"""Solves equations and inequalities in one unknown step by step, and defines the ranges of their numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Literal

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Done, Unsolvable, Work, WorkedStep, collected
from crosspatch.data.latex import Rational, as_factor, mark, number, size
from crosspatch.data.mistakes import Broken
from crosspatch.data.polynomial import Polynomial, divided
from crosspatch.data.problem import Operation

UNKNOWNS = "xyzabmnpkt"


@dataclass(frozen=True)
class Ranges:
    """The largest absolute values of factors, solutions and constants, and of roots and constants of quadratics."""

    factor: int
    solution: int
    constant: int
    root: int
    quadratic_constant: int


RANGES: dict[Difficulty, Ranges] = {
    "easy": Ranges(6, 9, 12, 5, 9),
    "medium": Ranges(12, 12, 30, 9, 20),
    "hard": Ranges(25, 30, 99, 15, 60),
}

_TIMES = r"\times"
_FLIPPED = {"<": ">", ">": "<", r"\leq": r"\geq", r"\geq": r"\leq"}


@dataclass(frozen=True)
class Surd:
    """(`top` + √`square`) / `under` or, if `negative`, (`top` − √`square`) / `under`; the root is irrational."""

    top: int
    square: int
    under: int
    negative: bool


# A value of an unknown.
Real = Rational | Surd


@dataclass
class Solver:
    """Solves an equation or inequality step by step; `left`, `sign` and `right` are its current state."""

    left: Polynomial
    right: Polynomial
    unknown: str
    broken: Broken
    sign: str = "="

    def linear(self) -> Work[Rational]:
        """Move the unknown left and the constant right, then isolate the unknown; return the right side."""
        if self.right.linear:
            yield self._move(Polynomial(linear=self.right.linear), "left")
        if self.left.constant:
            yield self._move(Polynomial(constant=self.left.constant), "right")
        if not self.left.linear:
            raise Unsolvable
        if self.left.linear != 1:
            yield self._isolate()
        return self.right.constant

    def quadratic(self) -> Work[list[Real]]:
        """Move all terms left and divide by the common factor; then factor or, if that fails, use the formula."""
        x = self.unknown
        if self.right:
            yield self._move(self.right, "left")
        common = math.gcd(*(int(c) for c in self.left.coefficients))
        if common > 1:
            self.left /= common
            yield WorkedStep("divide", f"Divide by {common}", (f"{self.left.latex(x)} = 0",))
        if not self.left.square:
            raise Unsolvable
        a, b, c = (int(n) for n in self.left.coefficients)
        discriminant = b * b - 4 * a * c
        if discriminant < 0:
            raise Unsolvable
        root = math.isqrt(discriminant)
        if root * root == discriminant:
            return (yield from self._factors([Fraction(-b + sign * root, 2 * a) for sign in (1, -1)]))
        return (yield from self._formula(a, b, c))

    def _move(self, term: Polynomial, to: Literal["left", "right"]) -> WorkedStep:
        """Move a term to the other side."""
        x, wrong, positive = self.unknown, "move" in self.broken, term.leading > 0
        operation = Operation("subtract" if positive != wrong else "add", (term if positive else -term).latex(x))
        arriving = term if wrong else -term
        if to == "left":
            before, self.left, self.right = self.left, self.left + arriving, self.right - term
            result = self.left
        else:
            before, self.left, self.right = self.right, self.left - term, self.right + arriving
            result = self.right
        square, linear, constant = (wrong and bool(c) for c in term.coefficients)
        sides = [result.latex(x, (square, linear, constant))]
        if before:
            sides.insert(0, f"{before.latex(x)} {_arriving(arriving, x, wrong)}")
        elif wrong and sides[0].startswith("-"):
            # No other line would show the wrong sign.
            sides[0] = mark("sign", "-") + sides[0][1:]
        lines = [
            f"{side} {self.sign} {self.right.latex(x)}" if to == "left" else f"{self.left.latex(x)} {self.sign} {side}"
            for side in sides
        ]
        return WorkedStep("move", f"Move ${term.latex(x)}$ to the {to} side", (Done(operation, wrong), *lines))

    def _isolate(self) -> WorkedStep:
        """Divide by the unknown's factor, or multiply by k if it is 1/k; a mistaken solver does the opposite."""
        factor, value, x, wrong = self.left.linear, self.right.constant, self.unknown, "isolate" in self.broken
        if wrong and not value:
            # Multiplying and dividing 0 give the same result: the mistake would not show.
            raise Unsolvable
        over = abs(factor.numerator) == 1 and factor.denominator > 1
        operand = divided(1, factor) if over else factor
        operation = Operation("multiply" if over != wrong else "divide", number(operand))
        result = value * factor if wrong else divided(value, factor)
        wrong = wrong and abs(factor) != 1
        flips = factor < 0 and self.sign != "="
        kept = flips and "flip" in self.broken
        if flips and not kept:
            self.sign = _FLIPPED[self.sign]
        if operation.verb == "multiply":
            unfinished = f"{number(value)} {mark('sign', _TIMES, wrong)} {as_factor(operand)}"
        else:
            unfinished = rf"\frac{{{number(value)}}}{{{number(operand)}}}"
        sides = [unfinished]
        if unfinished != number(result):
            sides.append(("-" if result < 0 else "") + mark("number", number(size(result)), wrong))
        done = Done(operation, wrong, " and turn the sign" if flips and not kept else "")
        self.left, self.right = Polynomial(linear=1), Polynomial(constant=result)
        sign = mark("sign", self.sign, kept)
        return WorkedStep("isolate", f"Solve for ${x}$", (done, *(f"{x} {sign} {side}" for side in sides)))

    def _factors(self, roots: list[Fraction]) -> Work[list[Real]]:
        """Factor, and set each factor to zero: one step each, by the same rules as any linear equation."""
        x = self.unknown
        factors = [
            Polynomial(linear=root.denominator, constant=-root.numerator) for root in sorted(roots, reverse=True)
        ]
        product = "".join(f"({factor.latex(x)})" for factor in factors)
        yield WorkedStep("factor", "Factor the quadratic", (f"{product} = 0",))
        values: list[Real] = []
        for factor in dict.fromkeys(factors):
            equation = f"{factor.latex(x)} = 0"
            steps, value = collected(Solver(factor, Polynomial(), x, self.broken).linear())
            body = tuple(part for step in steps for part in step.body)
            after = f"{x} = {number(value)}"
            yield WorkedStep("solve_factor", f"Solve ${equation}$", body, before=equation, after=after)
            values.append(value)
        return list(dict.fromkeys(values))

    def _formula(self, a: int, b: int, c: int) -> Work[list[Real]]:
        x, wrong, discriminant = self.unknown, "formula" in self.broken and b != 0, b * b - 4 * a * c
        first, top = (f"{mark('sign', '+')}({b})", b) if wrong else (f"-({b})", -b)
        lines = (
            rf"{x} = \frac{{{first} \pm \sqrt{{({b})^2 - 4({a})({c})}}}}{{2({a})}}",
            rf"{x} = \frac{{{mark('number', str(top), wrong)} \pm \sqrt{{{discriminant}}}}}{{{2 * a}}}",
        )
        yield WorkedStep("formula", "Use the quadratic formula", lines)
        return [Surd(top, discriminant, 2 * a, negative) for negative in (False, True)]


def vanishes(polynomial: Polynomial, value: Real) -> bool:
    """Whether the polynomial is exactly 0 at a value."""
    if not isinstance(value, Surd):
        return polynomial.at(value) == 0
    # At a value p + √q, both the rational part and the root's coefficient must be 0.
    p, q = Fraction(value.top, value.under), Fraction(value.square, value.under**2)
    a, b, c = polynomial.coefficients
    return a * (p * p + q) + b * p + c == 0 and 2 * a * p + b == 0


def nonzero(rng: Random, limit: int, least: int = 1) -> int:
    """Generate a whole number of either sign, with an absolute value between `least` and `limit`."""
    return rng.choice((-1, 1)) * rng.randint(least, limit)


def _arriving(term: Polynomial, unknown: str, wrong: bool) -> str:
    """Format a polynomial after another one, as in `+ 5x - 11`, with its signs marked if they are wrong."""
    text = term.latex(unknown)
    text = f"- {text[1:]}" if text.startswith("-") else f"+ {text}"
    # All signs of a moved polynomial are wrong, not only the first.
    return " ".join(mark("sign", word, wrong and word in ("+", "-")) for word in text.split(" "))
