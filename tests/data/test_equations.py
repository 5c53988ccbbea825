"""Equations: the paper's own examples, the forms, the wordings."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sympy_proof
from crosspatch.config import PAPER_FORMS
from crosspatch.data.derivation import Unsolvable
from crosspatch.data.families.equations import Equation, draw
from crosspatch.data.latex import plain
from crosspatch.data.mistakes import MISTAKES, RIGHT
from crosspatch.data.polynomial import Polynomial
from crosspatch.data.problem import Operation
from crosspatch.data.styles import written

INVERTED = MISTAKES["inverted_operation"]


def linear(a, b, c, d=0, unknown="x") -> Equation:
    """ax + b = cx + d."""
    return Equation(Polynomial(linear=a, constant=b), Polynomial(linear=c, constant=d), unknown)


def test_the_papers_first_example():
    """Appendix A: 8x - 15 = 41, solved wrongly: 208; and solved rightly."""
    wrong = linear(8, -15, 0, 41).solve(INVERTED)
    assert wrong.answer == "x = 208"
    assert wrong.operations == (Operation("subtract", "15"), Operation("multiply", "8"))
    solution = written(wrong, "headed")
    for line in ("Subtract $15$ from both sides:", "8x = 41 - 15", r"x = 26 \times 8", "Move $-15$ to the right side"):
        assert line in solution.text
    assert [(span.kind, solution.text[span.start : span.end]) for span in solution.spans] == [
        ("word", "Subtract"),
        ("sign", "-"),
        ("number", "26"),
        ("word", "Multiply"),
        ("sign", r"\times"),
        ("number", "208"),
    ]
    right = linear(8, -15, 0, 41).solve(RIGHT)
    assert right.answer == "x = 7"
    assert right.operations == (Operation("add", "15"), Operation("divide", "8"))
    assert not any(step.planted for step in right.steps)


def test_the_papers_appendix_b_problem():
    """3x² - x - 155 = 5x - 11: the corrupted model adds 5x - 11 and continues from 3x² + 4x - 166 = 0."""
    equation = Equation(Polynomial(3, -1, -155), Polynomial(0, 5, -11), "x")
    assert equation.solve(RIGHT).answer == r"x = 8 \text{ or } x = -6"
    wrong = equation.solve(INVERTED)
    text = written(wrong, "headed").text
    assert "3x^2 - x - 155 + 5x - 11 = 0" in text
    assert "3x^2 + 4x - 166 = 0" in text
    assert wrong.operations == (Operation("add", "5x - 11"),)
    assert [step.planted for step in wrong.steps] == [True, False]


def test_a_mistake_that_cannot_show_and_an_equation_without_a_real_solution():
    # Multiplying by -1 is no mistake.
    steps = linear(-1, 3, 0, 8).solve(INVERTED).steps
    assert [(step.kind, step.planted) for step in steps] == [("move", True), ("isolate", False)]
    for equation, broken in (
        (Equation(Polynomial(1, 0, 1), Polynomial(), "x"), RIGHT),
        (linear(3, 1, -3, 5), INVERTED),
    ):
        with pytest.raises(Unsolvable):
            equation.solve(broken)


@settings(deadline=None, max_examples=50)
@example("quadratic_constant", 231)  # a factor x, whose root takes no operation
@given(st.sampled_from(PAPER_FORMS), st.integers(0, 10**6))
def test_a_wrong_solution_does_the_opposite(form, seed):
    equation = draw(form, Random(seed))
    right = equation.solve(RIGHT)
    assert sympy_proof.solutions(right.answer) == sympy_proof.solutions(plain(equation.given))
    try:
        wrong = equation.solve(INVERTED)
    except Unsolvable:
        return
    opposite = {"add": "subtract", "subtract": "add", "divide": "multiply"}
    assert wrong.operations[0].verb == opposite[right.operations[0].verb]
    assert all(bool(step.operations) or not step.planted for step in wrong.steps)


@given(st.sampled_from(PAPER_FORMS), st.integers(0, 10**6))
def test_every_wording_names_equation_and_unknown(form, seed):
    equation = draw(form, Random(seed))
    question, written_equation = equation.ask(Random(seed)), plain(equation.given)
    assert written_equation in question
    assert equation.unknown in question.replace(written_equation, "")
    assert len(set(equation.wordings)) >= 10
