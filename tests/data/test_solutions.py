"""Solutions as text: the paper's own examples, the wordings, three styles, and the marks in them."""

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import sympy_proof
from crosspatch.config import PAPER_FORMS
from crosspatch.data.derivation import Unsolvable
from crosspatch.data.families.equations import Equation, draw
from crosspatch.data.families.systems import Line, System
from crosspatch.data.latex import plain, plain_words
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
    assert [span.kind for span in solution.spans] == ["word", "sign", "number"] * 2
    marked = [solution.text[span.start : span.end] for span in solution.spans]
    assert marked == ["Subtract", "-", "26", "Multiply", r"\times", "208"]
    right = linear(8, -15, 0, 41).solve(RIGHT)
    assert right.answer == "x = 7"
    assert right.operations == (Operation("add", "15"), Operation("divide", "8"))


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
    without = Equation(Polynomial(1, 0, 1), Polynomial(), "x")
    for equation, broken in ((without, RIGHT), (linear(3, 1, -3, 5), INVERTED)):
        with pytest.raises(Unsolvable):
            equation.solve(broken)


@example("quadratic_constant", 231)  # a factor x, whose root takes no operation
@given(st.sampled_from(PAPER_FORMS), st.integers(0, 10**6))
def test_every_wording_names_equation_and_unknown_and_a_wrong_solution_does_the_opposite(form, seed):
    equation = draw(form, Random(seed))
    question, written_equation = equation.ask(Random(seed)), plain(equation.given)
    assert written_equation in question
    assert equation.unknown in question.replace(written_equation, "")
    assert len(set(equation.wordings)) >= 10
    right = equation.solve(RIGHT)
    assert sympy_proof.solutions(right.answer) == sympy_proof.solutions(written_equation)
    try:
        wrong = equation.solve(INVERTED)
    except Unsolvable:
        return
    opposite = {"add": "subtract", "subtract": "add", "divide": "multiply"}
    assert wrong.operations[0].verb == opposite[right.operations[0].verb]
    assert all(bool(step.operations) or not step.planted for step in wrong.steps)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (
            "headed",  # as in the paper
            "We are given the equation:\n\n$$\n3z + 25 = 10\n$$\n\n"
            "### Step 1: Move $25$ to the right side\n\nSubtract $25$ from both sides:\n\n"
            "$$\n3z = 10 - 25\n$$\n\n$$\n3z = -15\n$$\n\n"
            "### Step 2: Solve for $z$\n\nDivide both sides by $3$:\n\n"
            "$$\nz = \\frac{-15}{3}\n$$\n\n$$\nz = -5\n$$\n\n"
            "**Answer:** $\\boxed{z = -5}$",
        ),
        (
            "plain",  # without LaTeX
            "We are given the equation:\n3z + 25 = 10\n\n"
            "Step 1: Move 25 to the right side.\nSubtract 25 from both sides:\n3z = 10 - 25\n3z = -15\n\n"
            "Step 2: Solve for z.\nDivide both sides by 3:\nz = -15/3\nz = -5\n\n"
            "Answer: z = -5",
        ),
        (
            "terse",  # operations and results only
            "3z + 25 = 10\nSubtract 25 from both sides:\n3z = -15\nDivide both sides by 3:\nz = -5\nAnswer: z = -5",
        ),
    ],
)
def test_a_solution_in_each_style(style, text):
    assert written(linear(3, 25, 0, 10, "z").solve(RIGHT), style).text == text


def test_terse_factors_say_which_and_equations_of_a_system_are_shown_one_by_one():
    equation = Equation(Polynomial(1, -2, -48), Polynomial(), "a")
    lines = written(equation.solve(RIGHT), "terse").text.splitlines()
    assert lines[3:6] == ["a - 8 = 0", "Add 8 to both sides:", "a = 8"]
    derivation = System(Line(4, -3, 15), Line(5, 2, 13), ("s", "t")).solve(RIGHT)
    assert "$$\n4s - 3t = 15\n$$\n\n$$\n5s + 2t = 13\n$$" in written(derivation, "headed").text
    assert ";" not in written(derivation, "plain").text
    # Both scaled ones stay in a terse text.
    said, *scaled = written(derivation, "terse").text.splitlines()[2:5]
    assert said == "Multiply the first equation by 2 and the second equation by 3:"
    assert scaled == ["8s - 6t = 30", "15s + 6t = 39"]


@pytest.mark.parametrize(
    ("latex", "typed"),
    [
        (r"\frac{x}{3}", "x/3"),
        (r"\frac{5}{8}n", "(5/8)n"),
        (r"\frac{-8 \pm \sqrt{176}}{2}", "(-8 ± √176)/2"),
        (r"x = 2 \text{ or } x = -1", "x = 2 or x = -1"),
        (r"3x^2 - x^{12}", "3x² - x¹²"),
        (r"2^{3 + 4}", "2^(3 + 4)"),
        (r"21 \times 9 \leq 3 \cdot 7", "21 × 9 ≤ 3 · 7"),
        (r"\sqrt{11 + 275}", "√(11 + 275)"),
        (r"\text{no}", "no"),
    ],
)
def test_how_latex_is_typed(latex, typed):
    assert plain(latex) == typed
    # In a sentence only what is between dollars is LaTeX.
    assert plain_words(f"Divide ${latex}$ by_2^2") == f"Divide {typed} by_2^2"
