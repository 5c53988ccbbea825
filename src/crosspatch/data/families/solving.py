r"""Solving equations and inequalities in one unknown, step by step, and how large their numbers are.

What equations, inequalities, systems and word problems have in common.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Body, Real, Show, Surd, Unsolvable, WorkedStep, said, shown
from crosspatch.data.marks import mark
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Polynomial, Rational, number, signed, size

UNKNOWNS = "xyzabmnpkt"


@dataclass(frozen=True)
class Ranges:
    """The largest sizes that are drawn: factors, solutions, constants; roots and constants of quadratics."""

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

_TURNED = {"=": "=", "<": ">", ">": "<", r"\leq": r"\geq", r"\geq": r"\leq"}

_TIMES = r"\times"


@dataclass
class LinearSteps:
    """A solver at work: `left` and `right` are the sides as they stand, `steps` what was done."""

    left: Polynomial
    right: Polynomial
    unknown: str
    rules: Rules
    sign: str = "="
    steps: list[WorkedStep] = field(default_factory=list)

    def solved(self) -> Rational:
        """Bring the unknown to the left, the constant to the right, and isolate: what stands on the right then."""
        if self.right.linear:
            self.move_to_left(Polynomial(linear=self.right.linear))
        if self.left.constant:
            self.move_constant()
        if not self.left.linear:
            raise Unsolvable
        if self.left.linear != 1:
            self.isolate()
        return self.right.constant

    def move_to_left(self, term: Polynomial) -> None:
        """`term` leaves the right side."""
        x, before = self.unknown, self.left
        operation, arriving = self.rules.move(term, x)
        wrong = self.rules.broken("move")
        self.right = self.right - term
        self.left = before + arriving
        right = self.right.latex(x)
        lines = [f"{before.latex(x)} {_arriving(arriving, x, wrong)} {self.sign} {right}"]
        lines.append(f"{self.left.latex(x, _changed(term, wrong))} {self.sign} {right}")
        body: Body = (f"{said(operation, wrong)}:", *shown(lines))
        self.steps.append(WorkedStep("move", f"Move ${term.latex(x)}$ to the left side", body, (operation,), wrong))

    def move_constant(self) -> None:
        """The constant leaves the left side."""
        x, before = self.unknown, self.right
        term = Polynomial(constant=self.left.constant)
        operation, arriving = self.rules.move(term, x)
        wrong = self.rules.broken("move")
        self.left = self.left - term
        self.right = before + arriving
        left = self.left.latex(x)
        lines = [f"{left} {self.sign} {before.latex(x)} {_arriving(arriving, x, wrong)}"] if before else []
        # Where nothing stood on the right the sign is the term's own, and there is no other line to show it.
        result = self.right.latex(x, _changed(term, wrong))
        if not before and wrong and result.startswith("-"):
            result = mark("sign", "-") + result[1:]
        lines.append(f"{left} {self.sign} {result}")
        body: Body = (f"{said(operation, wrong)}:", *shown(lines))
        self.steps.append(WorkedStep("move", f"Move ${term.latex(x)}$ to the right side", body, (operation,), wrong))

    def isolate(self) -> None:
        """The unknown's factor goes."""
        factor, value, x = self.left.linear, self.right.constant, self.unknown
        if self.rules.broken("isolate") and not value:
            # Nothing divided or multiplied is nothing: the mistake would be said and not show.
            raise Unsolvable
        operation, result = self.rules.isolate(factor, value)
        wrong_value = self.rules.broken("isolate") and factor * factor != 1
        turn = factor < 0 and self.sign != "="
        kept = turn and self.rules.broken("turn")
        if turn and not kept:
            self.sign = _TURNED[self.sign]
        sign = mark("sign", self.sign, kept)
        operand = _factor(operation.operand)
        if operation.verb == "multiply":
            unfinished = f"{number(value)} {mark('sign', _TIMES, wrong_value)} {operand}"
        else:
            unfinished = rf"\frac{{{number(value)}}}{{{operation.operand}}}"
        lines = [f"{x} {sign} {unfinished}"]
        if unfinished != number(result):
            finished = number(size(result))
            minus = "-" if result < 0 else ""
            lines.append(f"{x} {sign} {minus}{mark('number', finished, wrong_value)}")
        turning = " and turn the sign" if turn and not kept else ""
        body: Body = (f"{said(operation, wrong_value)}{turning}:", *shown(lines))
        wrong = wrong_value or kept
        self.steps.append(WorkedStep("isolate", f"Solve for ${x}$", body, (operation,), wrong))
        self.left, self.right = Polynomial(linear=1), Polynomial(constant=result)


def _factor(operand: str) -> str:
    return f"({operand})" if operand.startswith("-") else operand


def _arriving(term: Polynomial, unknown: str, wrong: bool) -> str:
    """`+ 5x - 11`: a polynomial as it follows another, its signs marked where they are wrong."""
    sign, rest = signed(term.latex(unknown))
    text = f"{mark('sign', sign, wrong)} {rest}"
    if not wrong:
        return text
    # The signs inside of a moved polynomial are as wrong as the one before it.
    return text.replace(" + ", f" {mark('sign', '+')} ").replace(" - ", f" {mark('sign', '-')} ")


def _changed(term: Polynomial, wrong: bool) -> tuple[bool, bool, bool]:
    """Which coefficients a wrongly moved term falsifies."""
    square, linear, constant = term.coefficients
    return (wrong and bool(square), wrong and bool(linear), wrong and bool(constant))


def solved_quadratic(solver: LinearSteps) -> list[Real]:
    """Bring all to the left, divide by what is common, then factor, or use the formula where that fails."""
    x = solver.unknown
    if solver.right:
        solver.move_to_left(solver.right)
    left = solver.left
    common = math.gcd(*(int(c) for c in left.coefficients))
    if common > 1:
        left = left / common
        body = (Show(f"{left.latex(x)} = 0"),)
        solver.steps.append(WorkedStep("divide", f"Divide by {common}", body))
    if not left.square:
        raise Unsolvable
    a, b, c = (int(n) for n in left.coefficients)
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        raise Unsolvable
    root = math.isqrt(discriminant)
    if root * root == discriminant:
        return _by_factors(solver, left, root)
    return _by_formula(solver, a, b, c)


def _by_factors(solver: LinearSteps, left: Polynomial, root: int) -> list[Real]:
    x = solver.unknown
    solutions = sorted({Fraction(-left.linear + sign * root, 2 * left.square) for sign in (1, -1)}, reverse=True)
    if len(solutions) == 1:
        solutions *= 2
    factors = [Polynomial(linear=s.denominator, constant=-s.numerator) for s in solutions]
    product = "".join(f"({factor.latex(x)})" for factor in factors)
    solver.steps.append(WorkedStep("factor", "Factor the quadratic", (Show(f"{product} = 0"),)))
    return list(dict.fromkeys(_factor_root(solver, factor) for factor in dict.fromkeys(factors)))


def _factor_root(solver: LinearSteps, factor: Polynomial) -> Rational:
    """One factor set to zero, with the same rules as any linear equation, written as one step."""
    x = solver.unknown
    inner = LinearSteps(factor, Polynomial(), x, solver.rules)
    value = inner.solved()
    equation = f"{factor.latex(x)} = 0"
    solver.steps.append(
        WorkedStep(
            "solve_factor",
            f"Solve ${equation}$",
            tuple(part for step in inner.steps for part in step.body),
            tuple(operation for step in inner.steps for operation in step.operations),
            planted=any(step.planted for step in inner.steps),
            before=equation,
            after=f"{x} = {number(value)}",
        )
    )
    return value


def _by_formula(solver: LinearSteps, a: int, b: int, c: int) -> list[Real]:
    x, wrong = solver.unknown, solver.rules.broken("formula") and b != 0
    discriminant = b * b - 4 * a * c
    first = f"{mark('sign', '+')}({b})" if wrong else f"-({b})"
    top = b if wrong else -b
    lines = [
        rf"{x} = \frac{{{first} \pm \sqrt{{({b})^2 - 4({a})({c})}}}}{{2({a})}}",
        rf"{x} = \frac{{{mark('number', str(top), wrong)} \pm \sqrt{{{discriminant}}}}}{{{2 * a}}}",
    ]
    solver.steps.append(WorkedStep("formula", "Use the quadratic formula", shown(lines), planted=wrong))
    return [Surd(top, discriminant, 2 * a, negative) for negative in (False, True)]
