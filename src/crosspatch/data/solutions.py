"""Step-by-step solutions of equations under given rules, written in the paper's manner (appendix A).

A wrong solution differs from the right one only by its `Rules`; everything after a changed step is computed on
from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Polynomial, number
from crosspatch.data.problem import Operation, Step


class Unsolvable(Exception):
    """Under these rules the equation comes out without a real solution."""


@dataclass(frozen=True)
class Equation:
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


@dataclass(frozen=True)
class Solution:
    """A worked solution and the answer in LaTeX that it reaches."""

    steps: tuple[Step, ...]
    text: str
    answer: str

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All that was done to both sides, in order."""
        return tuple(operation for step in self.steps for operation in step.operations)


def solve(equation: Equation, rules: Rules) -> Solution:
    """Solve a linear or quadratic equation; raises Unsolvable where the rules lead to no real solution."""
    writer = _Writer(equation, rules)
    roots = writer.quadratic() if equation.left.square else [number(writer.linear(equation.left, equation.right))]
    answer = r" \text{ or } ".join(f"{equation.unknown} = {root}" for root in roots)
    opening = f"We are given the equation:\n\n{_display(equation.latex)}"
    closing = rf"**Answer:** $\boxed{{{answer}}}$"
    headed = [f"### Step {i}: {step.text}" for i, step in enumerate(writer.steps, start=1)]
    return Solution(tuple(writer.steps), "\n\n".join([opening, *headed, closing]), answer)


class _Writer:
    """Collects the steps while an equation is solved."""

    def __init__(self, equation: Equation, rules: Rules) -> None:
        self.equation = equation
        self.unknown = equation.unknown
        self.rules = rules
        self.steps: list[Step] = []

    def linear(self, left: Polynomial, right: Polynomial) -> Fraction:
        """Bring the unknown to the left, the constant to the right, and isolate."""
        if right.linear:
            left, right = self._move_to_left(left, right, Polynomial(linear=right.linear))
        if left.constant:
            left, right = self._move_constant(left, right)
        if not left.linear:
            raise Unsolvable
        if left.linear == 1:
            return right.constant
        operation, unfinished, value = self.rules.isolate(left.linear, right.constant)
        lines = [f"{self.unknown} = {unfinished}"]
        if unfinished != number(value):
            lines.append(f"{self.unknown} = {number(value)}")
        self._add("isolate", f"Solve for ${self.unknown}$", operation, lines)
        return value

    def quadratic(self) -> list[str]:
        """Bring all to the left, divide by what is common, then factor, or use the formula where that fails."""
        left, right = self.equation.left, self.equation.right
        if right:
            left, right = self._move_to_left(left, right, right)
        common = Fraction(math.gcd(*(int(c) for c in left.coefficients)))
        if common > 1:
            left = left / common
            text = f"Divide by {number(common)}\n\n{_display(f'{left.latex(self.unknown)} = 0')}"
            self.steps.append(Step("divide", text))
        discriminant = left.linear**2 - 4 * left.square * left.constant
        if discriminant < 0:
            raise Unsolvable
        root = math.isqrt(int(discriminant))
        return self._factors(left, root) if root**2 == discriminant else self._formula(left, int(discriminant))

    def _factors(self, left: Polynomial, root: int) -> list[str]:
        solutions = sorted({(-left.linear + sign * root) / (2 * left.square) for sign in (1, -1)}, reverse=True)
        if len(solutions) == 1:
            solutions *= 2
        factors = [Polynomial.of(linear=s.denominator, constant=-s.numerator) for s in solutions]
        product = "".join(f"({factor.latex(self.unknown)})" for factor in factors)
        self.steps.append(Step("factor", f"Factor the quadratic\n\n{_display(f'{product} = 0')}"))
        roots = []
        for factor in dict.fromkeys(factors):
            roots.append(number(self._solve_factor(factor)))
        return list(dict.fromkeys(roots))

    def _solve_factor(self, factor: Polynomial) -> Fraction:
        """One factor set to zero, with the same rules as any linear equation, written as one step."""
        inner = _Writer(Equation(factor, Polynomial(), self.unknown), self.rules)
        value = inner.linear(factor, Polynomial())
        lines = [f"Solve ${factor.latex(self.unknown)} = 0$"]
        for step in inner.steps:
            lines.append(step.text.partition("\n\n")[2])
        operations = tuple(operation for step in inner.steps for operation in step.operations)
        self.steps.append(
            Step("solve_factor", "\n\n".join(lines), operations, planted=self.rules.inverted and bool(operations))
        )
        return value

    def _formula(self, left: Polynomial, discriminant: int) -> list[str]:
        a, b, c = (int(x) for x in left.coefficients)
        x = self.unknown
        lines = [
            rf"{x} = \frac{{-({b}) \pm \sqrt{{({b})^2 - 4({a})({c})}}}}{{2({a})}}",
            rf"{x} = \frac{{{-b} \pm \sqrt{{{discriminant}}}}}{{{2 * a}}}",
        ]
        text = "\n\n".join(["Use the quadratic formula", *map(_display, lines)])
        self.steps.append(Step("formula", text))
        return [rf"\frac{{{-b} {sign} \sqrt{{{discriminant}}}}}{{{2 * a}}}" for sign in "+-"]

    def _move_to_left(self, left: Polynomial, right: Polynomial, term: Polynomial) -> tuple[Polynomial, Polynomial]:
        """`term` leaves the right side."""
        x = self.unknown
        operation, arriving = self.rules.move(term, x)
        right = right - term
        lines = [f"{left.latex(x)} {_signed(arriving, x)} = {right.latex(x)}"]
        left = left + arriving
        lines.append(f"{left.latex(x)} = {right.latex(x)}")
        self._add("move", f"Move ${term.latex(x)}$ to the left side", operation, lines)
        return left, right

    def _move_constant(self, left: Polynomial, right: Polynomial) -> tuple[Polynomial, Polynomial]:
        """The constant leaves the left side."""
        x = self.unknown
        term = Polynomial(constant=left.constant)
        operation, arriving = self.rules.move(term, x)
        left = left - term
        lines = [f"{left.latex(x)} = {right.latex(x)} {_signed(arriving, x)}"] if right else []
        right = right + arriving
        lines.append(f"{left.latex(x)} = {right.latex(x)}")
        self._add("move", f"Move ${term.latex(x)}$ to the right side", operation, lines)
        return left, right

    def _add(self, kind: str, heading: str, operation: Operation, lines: list[str]) -> None:
        text = "\n\n".join([heading, f"{said(operation)}:", *map(_display, lines)])
        self.steps.append(Step(kind, text, (operation,), planted=self.rules.inverted))


def said(operation: Operation) -> str:
    """`Subtract 5x - 11 from both sides`."""
    verb, operand = operation.verb.capitalize(), f"${operation.operand}$"
    match operation.verb:
        case "add":
            return f"{verb} {operand} to both sides"
        case "subtract":
            return f"{verb} {operand} from both sides"
        case _:
            return f"{verb} both sides by {operand}"


def _display(latex: str) -> str:
    return f"$$\n{latex}\n$$"


def _signed(term: Polynomial, unknown: str) -> str:
    """`+ 5x - 11`: a polynomial as it follows another."""
    text = term.latex(unknown)
    return f"- {text[1:]}" if text.startswith("-") else f"+ {text}"
