"""Equations: the paper's own examples, the forms, the wordings."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sympy_proof
from crosspatch.config import PAPER_FORMS
from crosspatch.data.derivation import Done, Unsolvable
from crosspatch.data.families.equations import Equation, draw
from crosspatch.data.families.solving import Surd, vanishes
from crosspatch.data.latex import number, plain
from crosspatch.data.mistakes import MISTAKES, RIGHT
from crosspatch.data.polynomial import Polynomial, divided
from crosspatch.data.problem import Operation
from crosspatch.data.styles import written

INVERTED = MISTAKES["inverted_operation"]


def linear(a, b, c, d=0, unknown="x") -> Equation:
    """ax + b = cx + d."""
    return Equation(Polynomial(linear=a, constant=b), Polynomial(linear=c, constant=d), unknown)


def text_of(derivation) -> str:
    return written(derivation, "headed").text


def test_how_polynomials_are_written():
    p = Polynomial(3, -1, -155)
    assert p.latex("x") == "3x^2 - x - 155"
    assert plain(p.latex("y")) == "3y² - y - 155"
    assert Polynomial().latex("x") == "0"
    assert (-Polynomial(1, 0, 2)).latex("t") == "-t^2 - 2"
    assert number(Fraction(-3, 2)) == r"-\frac{3}{2}"
    assert divided(6, 3) == 2
    assert isinstance(divided(6, 3), int)
    assert divided(7, 2) == Fraction(7, 2)


def test_the_papers_first_example():
    """Appendix A: 8x - 15 = 41, solved wrongly: 208; and solved rightly."""
    wrong = linear(8, -15, 0, 41).solve(INVERTED)
    assert wrong.answer == "x = 208"
    assert [str(Done(operation)) for operation in wrong.operations] == [
        "Subtract $15$ from both sides:",
        "Multiply both sides by $8$:",
    ]
    for line in ("8x = 41 - 15", "8x = 26", r"x = 26 \times 8", "x = 208", "Move $-15$ to the right side"):
        assert line in text_of(wrong)
    solution = written(wrong, "headed")
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
    assert "3x^2 - x - 155 + 5x - 11 = 0" in text_of(wrong)
    assert "3x^2 + 4x - 166 = 0" in text_of(wrong)
    assert wrong.operations == (Operation("add", "5x - 11"),)
    assert [step.planted for step in wrong.steps] == [True, False]


def test_both_sides():
    right = linear(15, -28, 7, 12, "b").solve(RIGHT)
    assert right.answer == "b = 5"
    assert right.operations == (Operation("subtract", "7b"), Operation("add", "28"), Operation("divide", "8"))
    assert linear(15, -28, 7, 12, "b").solve(INVERTED).answer == "b = -352"


@pytest.mark.parametrize(
    ("mistake", "operations", "planted"),
    [
        ("added_for_subtracted", [("subtract", "15"), ("divide", "8")], [True, False]),
        ("multiplied_for_divided", [("add", "15"), ("multiply", "8")], [False, True]),
    ],
)
def test_one_part_of_the_papers_mistake_alone(mistake, operations, planted):
    derivation = linear(8, -15, 0, 41).solve(MISTAKES[mistake])
    assert [(operation.verb, operation.operand) for operation in derivation.operations] == operations
    assert [step.planted for step in derivation.steps] == planted


def test_multiplying_by_minus_one_is_no_mistake():
    steps = linear(-1, 3, 0, 8).solve(INVERTED).steps
    assert [(step.kind, step.planted) for step in steps] == [("move", True), ("isolate", False)]


def test_an_equation_without_a_real_solution_is_refused():
    with pytest.raises(Unsolvable):
        Equation(Polynomial(1, 0, 1), Polynomial(), "x").solve(RIGHT)
    with pytest.raises(Unsolvable):
        linear(3, 1, -3, 5).solve(INVERTED)


@settings(deadline=None)
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


def test_half_of_the_solutions_is_no_answer_and_irrational_roots_are_put_in_exactly():
    square = Polynomial(1, -5, 6)
    assert vanishes(square, 2)
    assert not vanishes(square, 5)
    # x² - 2x - 1 = 0 has the roots 1 ± √2 = (2 ± √8)/2.
    assert vanishes(Polynomial(1, -2, -1), Surd(2, 8, 2, negative=True))
    assert not vanishes(Polynomial(1, -2, -1), Surd(-2, 8, 2, negative=True))
    assert not vanishes(Polynomial(1, -2, -1), Surd(2, 7, 2, negative=True))
    assert Equation(square, Polynomial(), "x").answers == 2
    assert Equation(Polynomial(1, -2, 1), Polynomial(), "x").answers == 1
