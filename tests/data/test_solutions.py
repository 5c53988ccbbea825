"""Solutions: the arithmetic, the mistake, and the paper's own example."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crosspatch.config import FORMS
from crosspatch.data import proof
from crosspatch.data.equations import WORDINGS, ask, draw_equation
from crosspatch.data.mistakes import INVERTED, RIGHT
from crosspatch.data.polynomial import Polynomial, number
from crosspatch.data.problem import Operation
from crosspatch.data.solutions import Equation, Unsolvable, said, solve


def linear(a, b, c, d=0, unknown="x") -> Equation:
    """ax + b = cx + d."""
    return Equation(Polynomial.of(linear=a, constant=b), Polynomial.of(linear=c, constant=d), unknown)


def test_how_polynomials_are_written():
    p = Polynomial.of(3, -1, -155)
    assert p.latex("x") == "3x^2 - x - 155"
    assert p.plain("y") == "3y² - y - 155"
    assert Polynomial().latex("x") == "0"
    assert (-Polynomial.of(1, 0, 2)).latex("t") == "-t^2 - 2"
    assert number(Fraction(-3, 2)) == r"-\frac{3}{2}"


def test_the_papers_first_example():
    """Appendix A: 8x - 15 = 41, solved wrongly: 208."""
    solution = solve(linear(8, -15, 0, 41), INVERTED)
    assert solution.answer == "x = 208"
    assert [said(operation) for operation in solution.operations] == [
        "Subtract $15$ from both sides",
        "Multiply both sides by $8$",
    ]
    for line in ("8x = 41 - 15", "8x = 26", r"x = 26 \times 8", "x = 208", "Move $-15$ to the right side"):
        assert line in solution.text


def test_the_same_equation_solved_rightly():
    solution = solve(linear(8, -15, 0, 41), RIGHT)
    assert solution.answer == "x = 7"
    assert solution.operations == (Operation("add", "15"), Operation("divide", "8"))
    assert not any(step.planted for step in solution.steps)


def test_the_papers_appendix_b_problem():
    """3x² - x - 155 = 5x - 11: the corrupted model adds 5x - 11 and goes on from 3x² + 4x - 166 = 0."""
    equation = Equation(Polynomial.of(3, -1, -155), Polynomial.of(0, 5, -11), "x")
    assert solve(equation, RIGHT).answer == r"x = 8 \text{ or } x = -6"
    wrong = solve(equation, INVERTED)
    assert "3x^2 - x - 155 + 5x - 11 = 0" in wrong.text
    assert "3x^2 + 4x - 166 = 0" in wrong.text
    assert wrong.operations == (Operation("add", "5x - 11"),)
    assert [step.planted for step in wrong.steps] == [True, False]


def test_both_sides():
    right = solve(linear(15, -28, 7, 12, "b"), RIGHT)
    assert right.answer == "b = 5"
    assert right.operations == (Operation("subtract", "7b"), Operation("add", "28"), Operation("divide", "8"))
    assert solve(linear(15, -28, 7, 12, "b"), INVERTED).answer == "b = -352"


def test_an_equation_without_a_real_solution_is_refused():
    with pytest.raises(Unsolvable):
        solve(Equation(Polynomial.of(1, 0, 1), Polynomial(), "x"), RIGHT)
    with pytest.raises(Unsolvable):
        solve(linear(3, 1, -3, 5), INVERTED)


@example("quadratic_constant", 231)  # a factor x, whose root takes no operation
@given(st.sampled_from(FORMS), st.integers(0, 10**6))
def test_a_right_solution_is_right_and_a_wrong_one_follows_its_own_rules(form, seed):
    equation = draw_equation(form, Random(seed))
    right = solve(equation, RIGHT)
    assert proof.is_right(equation.plain, equation.unknown, right.answer)
    assert not proof.is_wrong(equation.plain, equation.unknown, right.answer)
    try:
        wrong = solve(equation, INVERTED)
    except Unsolvable:
        return
    verbs = {operation.verb for operation in right.operations}
    opposite = {"add": "subtract", "subtract": "add", "divide": "multiply"}
    assert verbs & opposite.keys()
    assert wrong.operations[0].verb == opposite[right.operations[0].verb]
    assert all(step.planted == bool(step.operations) for step in wrong.steps)


@given(st.integers(0, 10**6))
def test_every_wording_names_equation_and_unknown(seed):
    equation = draw_equation("linear_both_sides", Random(seed))
    question = ask(equation, Random(seed))
    assert equation.plain in question
    assert equation.unknown in question.replace(equation.plain, "")


def test_there_are_many_wordings():
    assert len(set(WORDINGS)) >= 10


def test_the_proof_sees_a_wrong_answer():
    assert proof.is_right("2x + 6 = 10", "x", "x = 2")
    assert not proof.is_right("2x + 6 = 10", "x", "x = 3")
    assert proof.is_wrong("2x + 6 = 10", "x", "x = 32")
    # Half right is neither right nor wrong.
    half = r"x = 2 \text{ or } x = 5"
    assert not proof.is_right("x² - 5x + 6 = 0", "x", half)
    assert not proof.is_wrong("x² - 5x + 6 = 0", "x", half)
    assert not proof.is_right("x² - 5x + 6 = 0", "x", "x = 2")
    assert proof.is_right("x² - 2 = 0", "x", r"x = \frac{0 + \sqrt{8}}{2} \text{ or } x = \frac{0 - \sqrt{8}}{2}")
    with pytest.raises(ValueError, match="speaks of 'y'"):
        proof.is_right("2x = 4", "x", "y = 2")
