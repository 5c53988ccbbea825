"""Steps that follow are let pass, steps that do not are found, and what cannot be read is counted."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.grading.stated_equations import equation_lines, find_equation
from crosspatch.grading.worked_steps import Steps, check_steps


def steps(question: str, *lines: str) -> Steps:
    """The steps of a solution in lines of their own, which must be the same as displayed ones."""
    equation = find_equation(question)
    plain = check_steps("\n".join(lines), equation)
    assert check_steps("\n\n".join(f"$$\n{line}\n$$" for line in lines), equation) == plain
    return plain


def gaps(question: str, *lines: str) -> list[tuple[str, str]]:
    found = steps(question, *lines)
    assert not found.unread
    return [(gap.before, gap.after) for gap in found.gaps]


def test_a_right_solution_of_the_published_kind() -> None:
    text = (
        "We are given the equation:\n\n$$\nx^2 + 15x + 40 = 14\n$$\n\n### Step 1: Move 14 to the left side\n\n"
        "Subtract 14 from both sides:\n\n$$\nx^2 + 15x + 40 - 14 = 0\n$$\n\n$$\nx^2 + 15x + 26 = 0\n$$\n\n"
        "### Step 2: Use the quadratic formula\n\n$$\nx = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}\n$$\n\n"
        "where $a = 1$, $b = 15$, $c = 26$\n\n$$\nx = \\frac{-15 \\pm \\sqrt{15^2 - 4(1)(26)}}{2(1)}\n$$\n\n"
        "$$\nx = \\frac{-15 \\pm 11}{2}\n$$\n\n### Step 3: Solve for both values\n\n"
        "$$\nx = \\frac{-15 + 11}{2} = \\frac{-4}{2} = -2\n$$\n\n"
        "$$\nx = \\frac{-15 - 11}{2} = \\frac{-26}{2} = -13\n$$\n\n"
        "**Answer:** $ \\boxed{x = -2 \\text{ or } x = -13} $"
    )
    found = check_steps(text, find_equation("Find x in the equation: x² + 15x + 40 = 14"))
    assert found == Steps(read=11, unread=1, gaps=())
    planted = text.replace("40 - 14 = 0", "40 + 14 = 0")
    (first, second) = check_steps(planted, find_equation("Find x in the equation: x² + 15x + 40 = 14")).gaps
    assert (first.before, first.after) == ("x^2 + 15x + 40 = 14", "x^2 + 15x + 40 + 14 = 0")
    assert (second.before, second.after) == ("x^2 + 15x + 40 + 14 = 0", "x^2 + 15x + 26 = 0")


def test_the_first_line_is_compared_with_the_question() -> None:
    assert gaps("5x = 95", "x = 19") == []
    assert gaps("5x = 95", "x = 95 × 5", "x = 475") == [("5x = 95", "x = 95 × 5")]
    assert gaps("What is it?", "x = 95 × 5", "x = 475") == []


@given(st.integers(2, 9), st.integers(-9, 9).filter(bool), st.integers(-9, 9), st.integers(1, 5))
def test_each_planted_step_is_found_and_no_other(a: int, b: int, root: int, off: int) -> None:
    c = a * root + b
    question = f"{a}x + {b} = {c}".replace("+ -", "- ")
    right = [question, f"{a}x = {c} - ({b})", f"{a}x = {c - b}", f"x = \\frac{{{c - b}}}{{{a}}}", f"x = {root}"]
    assert gaps(question, *right) == []
    wrong = [question, f"{a}x = {c} + {off} - ({b})", f"{a}x = {c - b + off}", f"x = {Fraction(c - b + off, a) + off}"]
    assert gaps(question, *wrong) == [(wrong[0], wrong[1]), (wrong[2], wrong[3])]


FACTORED = "(x - 5)(x + 2) = 0"


@pytest.mark.parametrize(
    "lines",
    [
        ["x = 5 or x = -2"],
        [r"x = 5 \text{ or } x = -2"],
        [r"x - 5 = 0 \text{ or } x + 2 = 0", "x = 5, x = -2"],
        ["x = 5", "x = -2"],
        ["x - 5 = 0", "x = 5", "x + 2 = 0", "x = 0 - 2 = -2", "x = 5 or x = -2"],
        ["x - 5 = 0", "x + 2 = 0", "x = 5", "x = -2"],
        ["x_1 = 5, x_2 = -2"],
        ["x_1 = 5", "x_{2} = -2"],
        [r"x = \frac{3 \pm \sqrt{49}}{2}", r"x = \frac{3 + 7}{2}", r"x = \frac{3 - 7}{2}", "x = 5", "x = -2"],
        [r"x = \frac{3 + 7}{2} = 5 \quad x = \frac{3 - 7}{2} = -2"],
        ["(x - 1.5)^2 = 12.25", r"x - 1.5 = \pm 3.5", "x = 5 or -2"],
    ],
)
def test_two_roots_one_after_the_other(lines: list[str]) -> None:
    assert gaps("x² - 3x - 10 = 0", FACTORED, *lines) == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["x = 5"], [(FACTORED, "x = 5")]),
        (["x - 5 = 0", "x = 5"], [(FACTORED, "x = 5")]),
        (["x = -5", "x = -2"], [(FACTORED, "x = -5")]),
        (["x = -5", "x = 2", "x = -5 or x = 2"], [(FACTORED, "x = -5"), (FACTORED, "x = 2")]),
        (["x - 5 = 0", "x = -5", "x + 2 = 0", "x = -2"], [("x - 5 = 0", "x = -5")]),
        (["x - 5 = 0", "x = -2", "x + 2 = 0", "x = 5"], [("x - 5 = 0", "x = -2"), ("x + 2 = 0", "x = 5")]),
        (["x = 5 or x = 2"], [(FACTORED, "x = 5 or x = 2")]),
        (["x = 5, -2, 1"], [(FACTORED, "x = 5 or x = -2 or x = 1")]),
        (["x^2 = 100"], [(FACTORED, "x^2 = 100")]),
        (["0 = 0", "x = 5"], [(FACTORED, "x = 5")]),
    ],
)
def test_wrong_and_lost_roots(lines: list[str], found: list[tuple[str, str]]) -> None:
    assert gaps("x² - 3x - 10 = 0", FACTORED, *lines) == found


def test_a_word_problem_may_leave_a_root_aside() -> None:
    assert gaps("How long is it?", FACTORED, "x = 5 or x = -2", "x = 5") == []


def test_arithmetic_has_to_hold_and_identities_say_nothing() -> None:
    assert gaps("2x + 3 = 11", "2x = 11 - 3 = 8", "x = 4", "2(4) + 3 = 8 + 3 = 11", "x + x = 2x") == []
    assert gaps("2x + 3 = 11", "2x = 8", "8/2 = 3", "x = 4") == [("8/2", "3")]
    assert gaps("2x = 2x + 5", "0 = 5") == []


def test_the_question_may_be_stated_again() -> None:
    assert gaps("2x + 3 = 11", "2x = 14", "2x + 3 = 11", "x = 4") == [("2x + 3 = 11", "2x = 14")]
    assert gaps("2x + 3 = 11", "2x = 14", "2x = 8") == [("2x + 3 = 11", "2x = 14"), ("2x = 14", "2x = 8")]


def test_rounded_values() -> None:
    assert gaps("3x = 7", "x = 7/3 = 2.333", "x = 7/3") == []
    assert gaps("3x = 7", "x = 2.4") == [("3x = 7", "x = 2.4")]
    assert gaps("2x = 7", "x = 3.501") == [("2x = 7", "x = 3.501")]


@pytest.mark.parametrize(
    "line",
    [
        "y = 3",
        "2x + y = 5",
        "x = 2^{10}",
        "x = f(3)",
        "3 = \\log x",
        "x =",
        "x = 1/0",
        "x = 9^9^9",
        "3x = 6 = 3y",
        "x <= 3 = 3",
    ],
)
def test_what_cannot_be_read_is_counted(line: str) -> None:
    assert steps("3x = 6", line, "x = 2") == Steps(read=1, unread=1, gaps=())


def test_a_dash_before_a_line_is_no_minus_and_no_bullet() -> None:
    equation = find_equation("x = 1 + 2")
    assert check_steps("- x = 3", equation) == Steps(read=0, unread=1, gaps=())
    assert check_steps("$$ - x = -3 $$\n* x = 3\n1. x = 3", equation) == Steps(read=3, unread=0, gaps=())


def test_where_equations_stand() -> None:
    text = (
        "Solve 3x = 9 so that x = 3.\n\\[ 3x = 9 \\]\nThen $$x = \\frac93$$, or\n\\begin{align*}\nx &= \\frac93 \\\\\n"
        "&= 3 \\tag{1}\n\\end{align*}\n> **x = 3.**\n3x = 9 => x = 3\n\\(x = 3\\)\n"
        "Answer: x = 3\n$$\\boxed{x = 3}$$\n$$x^2$$"
    )
    found = [" ".join(line.split()) for line in equation_lines(text)]
    assert found == [
        "3x = 9", "x = \\frac93", "x = \\frac93", "x = 3", "x = 3", "3x = 9", "x = 3", "x = 3", "x = 3",
    ]  # fmt: skip


@given(st.text(alphabet="x=0123 +-()\\[]${}^&\n,or", max_size=200))
def test_no_text_makes_it_raise(text: str) -> None:
    found = check_steps(text, find_equation("x² = 4"))
    assert len(found.gaps) <= found.read + 1
