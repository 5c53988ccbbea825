"""Random equations of the paper's forms and the many ways to ask for their solution."""

from __future__ import annotations

from random import Random

from crosspatch.config import Form
from crosspatch.data.polynomial import Polynomial
from crosspatch.data.solutions import Equation

UNKNOWNS = "xyzabmnpkt"

WORDINGS = (
    "Solve for {x}: {equation}",
    "If {equation} what is {x}?",
    "{equation}. Solve for {x}.",
    "Solve the equation {equation} for {x}.",
    "Question: {equation}. Solve for {x}.",
    "Find {x} in the equation: {equation}",
    "What is the value of {x} if {equation}?",
    "Find {x}: {equation}",
    "What is {x} if {equation}?",
    "Given {equation}, find {x}.",
    "Determine {x} when {equation}.",
    "Which {x} satisfies {equation}?",
)


def draw_equation(form: Form, rng: Random) -> Equation:
    """An equation of one form with whole-number solutions, its unknown drawn too."""
    unknown = rng.choice(UNKNOWNS)
    match form:
        case "linear_one_step" | "linear_two_step" | "linear_both_sides":
            left, right = _linear(form, rng)
        case "quadratic_zero" | "quadratic_constant" | "quadratic_expression":
            left, right = _quadratic(form, rng)
    return Equation(left, right, unknown)


def ask(equation: Equation, rng: Random) -> str:
    """The question, in one of the wordings."""
    return rng.choice(WORDINGS).format(equation=equation.plain, x=equation.unknown)


def _linear(form: str, rng: Random) -> tuple[Polynomial, Polynomial]:
    solution = _nonzero(rng, 12)
    a, b = rng.randint(2, 12), _nonzero(rng, 30)
    if form == "linear_one_step":
        if rng.random() < 0.5:
            return Polynomial.of(linear=a), Polynomial.of(constant=a * solution)
        return Polynomial.of(linear=1, constant=b), Polynomial.of(constant=solution + b)
    left = Polynomial.of(linear=a, constant=b)
    if form == "linear_two_step":
        return left, Polynomial.of(constant=a * solution + b)
    c = rng.choice([c for c in range(2, 13) if c != a])
    return left, Polynomial.of(linear=c, constant=(a - c) * solution + b)


def _quadratic(form: str, rng: Random) -> tuple[Polynomial, Polynomial]:
    r, s = _nonzero(rng, 9), _nonzero(rng, 9)
    a = rng.choice((1, 1, 1, 2, 3))
    whole = Polynomial.of(a, -a * (r + s), a * r * s)
    if form == "quadratic_zero":
        return whole, Polynomial()
    linear = rng.randint(2, 9) if form == "quadratic_expression" else 0
    right = Polynomial.of(linear=linear, constant=_nonzero(rng, 20))
    return whole + right, right


def _nonzero(rng: Random, limit: int) -> int:
    return rng.choice((-1, 1)) * rng.randint(1, limit)
