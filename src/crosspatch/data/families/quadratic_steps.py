"""Solving a quadratic equation: all to the left, what is common out, then factors or the formula."""

from __future__ import annotations

import math
from fractions import Fraction

from crosspatch.data.derivation import Real, Show, Surd, Unsolvable, WorkedStep, shown
from crosspatch.data.families.linear_steps import LinearSteps
from crosspatch.data.marks import mark
from crosspatch.data.polynomial import Polynomial, Rational, number


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
