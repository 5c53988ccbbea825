"""Proof by sympy that a right answer is right and a wrong one wrong, from the texts alone.

It parses the question and the answer as a reader would, and shares no arithmetic with the code that made them.
"""

from __future__ import annotations

import re

import sympy

_FRACTION = re.compile(r"\\frac\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}\{([^{}]*)\}")


def solutions_of(equation: str, unknown: str) -> frozenset[sympy.Expr]:
    """The real solutions of an equation written as in a question, `3x² - x = 5x - 11`."""
    left, right = (_expression(side) for side in equation.split("="))
    symbol = sympy.Symbol(unknown, real=True)
    return frozenset(sympy.solve(sympy.Eq(left, right), symbol))


def solutions_in(answer: str, unknown: str) -> frozenset[sympy.Expr]:
    r"""The values that an answer in LaTeX names, `x = 2 \text{ or } x = \frac{1}{2}`."""
    values = set()
    for part in answer.split(r"\text{ or }"):
        name, _, value = part.partition("=")
        if name.strip() != unknown:
            raise ValueError(f"the answer {answer!r} speaks of {name.strip()!r}, the question of {unknown!r}")
        value = _FRACTION.sub(r"((\1)/(\2))", value)
        values.add(_expression(re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", value)))
    return frozenset(values)


def is_right(equation: str, unknown: str, answer: str) -> bool:
    """Whether the answer names exactly the equation's solutions."""
    true, said = solutions_of(equation, unknown), solutions_in(answer, unknown)
    return len(true) == len(said) and all(any(sympy.simplify(a - b) == 0 for b in true) for a in said)


def is_wrong(equation: str, unknown: str, answer: str) -> bool:
    """Whether no value that the answer names solves the equation: not half wrong, wrong."""
    true, said = solutions_of(equation, unknown), solutions_in(answer, unknown)
    return not any(sympy.simplify(a - b) == 0 for a in said for b in true)


def _expression(text: str) -> sympy.Expr:
    text = re.sub(r"(\d)([a-z])(?![a-z])", r"\1*\2", text.replace("²", "**2"))
    names = {name: sympy.Symbol(name, real=True) for name in "abcdefghijklmnopqrstuvwxyz"}
    return sympy.sympify(text, locals={**names, "sqrt": sympy.sqrt})
