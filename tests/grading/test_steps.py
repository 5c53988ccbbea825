"""Steps that do not follow are found, all others pass, and what cannot be read is counted."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.grading.steps import Steps

from .test_row_check import check


def steps(question: str, *lines: str) -> Steps:
    """The steps of a solution with a formula on each line, which are the same as those of displayed formulas."""
    plain = check(question, "\n".join(lines)).steps
    assert check(question, "\n\n".join(f"$$\n{line}\n$$" for line in lines)).steps == plain
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
    question = "Find x in the equation: x² + 15x + 40 = 14"
    assert check(question, text).steps == Steps(read=11, unread=1, gaps=())
    (first, second) = check(question, text.replace("40 - 14 = 0", "40 + 14 = 0")).steps.gaps
    assert (first.before, first.after) == ("x^2 + 15x + 40 = 14", "x^2 + 15x + 40 + 14 = 0")
    assert (second.before, second.after) == ("x^2 + 15x + 40 + 14 = 0", "x^2 + 15x + 26 = 0")


@given(st.integers(2, 9), st.integers(-9, 9).filter(bool), st.integers(-9, 9), st.integers(1, 5))
def test_each_planted_step_is_found_and_no_other(a: int, b: int, root: int, off: int) -> None:
    c = a * root + b
    question = f"{a}x + {b} = {c}".replace("+ -", "- ")
    right = [question, f"{a}x = {c} - ({b})", f"{a}x = {c - b}", f"x = \\frac{{{c - b}}}{{{a}}}", f"x = {root}"]
    assert gaps(question, *right) == []
    wrong = [question, f"{a}x = {c} + {off} - ({b})", f"{a}x = {c - b + off}", f"x = {Fraction(c - b + off, a) + off}"]
    assert gaps(question, *wrong) == [(wrong[0], wrong[1]), (wrong[2], wrong[3])]


FACTORED = "(x - 5)(x + 2) = 0"


TWO_ROOTS = [
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
]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        *((lines, []) for lines in TWO_ROOTS),
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
def test_wrong_and_lost_roots_and_no_others(lines: list[str], found: list[tuple[str, str]]) -> None:
    assert gaps("x² - 3x - 10 = 0", FACTORED, *lines) == found


@pytest.mark.parametrize(
    ("question", "lines", "found"),
    [
        # The first line is compared with the question, if there is an equation in it.
        ("5x = 95", ["x = 19"], []),
        ("5x = 95", ["x = 95 × 5", "x = 475"], [("5x = 95", "x = 95 × 5")]),
        ("What is it?", ["x = 95 × 5", "x = 475"], []),
        # A word problem may leave a root aside.
        ("How long is it?", [FACTORED, "x = 5 or x = -2", "x = 5"], []),
        # Upper and lower signs belong together.
        ("What is it?", [r"x \pm 1 = \pm 3", "x = 2 or x = -2"], []),
        ("What is it?", [r"x = 1 \pm 2 \mp 3", "x = 0 or x = 2"], []),
        # Arithmetic has to hold, and identities are no steps.
        ("2x + 3 = 11", ["2x = 11 - 3 = 8", "x = 4", "2(4) + 3 = 8 + 3 = 11", "x + x = 2x"], []),
        ("2x + 3 = 11", ["2x = 8", "8/2 = 3", "x = 4"], [("8/2", "3")]),
        ("2x = 2x + 5", ["0 = 5"], []),
        # The question may be stated again.
        ("2x + 3 = 11", ["2x = 14", "2x + 3 = 11", "x = 4"], [("2x + 3 = 11", "2x = 14")]),
        ("2x + 3 = 11", ["2x = 14", "2x = 8"], [("2x + 3 = 11", "2x = 14"), ("2x = 14", "2x = 8")]),
        # Values may be rounded where they have no decimal.
        ("3x = 7", ["x = 7/3 = 2.333", "x = 7/3"], []),
        ("3x = 7", ["x = 2.4"], [("3x = 7", "x = 2.4")]),
        ("2x = 7", ["x = 3.501"], [("2x = 7", "x = 3.501")]),
    ],
)
def test_steps_that_follow_and_that_do_not(question: str, lines: list[str], found: list[tuple[str, str]]) -> None:
    assert gaps(question, *lines) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1/2x", r"\frac{x}{2}"),
        ("3/4(x + 1)", "0.75x + 0.75"),
        ("2(x - 3)/4", "x/2 - 1.5"),
        ("(x + 1)^2", "x² + 2x + 1"),
        ("x(x + 1)", "x^{2} + x"),
        (r"x + \frac{\sqrt{8}}{2}", "x + √2"),
        ("x + √(1/2)", r"x + \frac{\sqrt{2}}{2}"),
    ],
)
def test_two_ways_to_write_the_same(one: str, other: str) -> None:
    assert gaps("What is it?", f"{one} = 7", f"{other} = 7") == []
    assert gaps("What is it?", f"{one} = 7", f"{other} + 1 = 7") == [(f"{one} = 7", f"{other} + 1 = 7")]


UNREADABLE = r"""x y|3y|xx|x 3|2 3|x3|sin(x)|f(3)|x(3)|1/0|x/(1 - 1)|6/x|x/x|1/2(3)|2\frac{1}{2}|2^x|2^2^2|x^-1|2^{10}
9^9^9|((9^9)^9)^9|(x^3)^3|√x|\sqrt[3]{8}|\pi|π|5!|50%|(1|1)|{1]|\frac{1}|\frac1x|√999999999999989999
1/(√2 + √3 + √5)|٣|\text{3}|__import__('os')|1e5|\log x""".replace("\n", "|").split("|")


@pytest.mark.parametrize(
    "value", [*UNREADABLE, "9" * 31, "(" * 30 + "1" + ")" * 30, "-" * 30 + "1", "1 + " * 100 + "1"]
)
def test_what_cannot_be_read_is_counted(value: str) -> None:
    assert check("3x = 6", f"$$3 + x = {value}$$\n$$x = 2$$").steps == Steps(read=1, unread=1, gaps=())


def test_a_line_that_cannot_be_read_is_counted_and_a_dash_before_one_is_no_minus_and_no_bullet() -> None:
    for line in ("y = 3", "2x + y = 5", "x =", "3x = 6 = 3y", "x <= 3 = 3"):
        assert steps("3x = 6", line, "x = 2") == Steps(read=1, unread=1, gaps=())
    assert check("x = 1 + 2", "- x = 3").steps == Steps(read=0, unread=1, gaps=())
    assert check("x + 2 = 5", "$$ - x = -3 $$\n* x = 3\n1. x = 3").steps == Steps(read=3, unread=0, gaps=())


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Solve 3x = 9 so that x = 3.", 0),
        ("\\[ 3x = 9 \\]\nThen $$x = \\frac93$$, or", 2),
        ("\\begin{align*}\nx &= \\frac93 \\\\\n&= 3 \\tag{1}\n\\end{align*}", 2),
        ("> **x = 3.**\n3x = 9 => x = 3\n\\(x = 3\\)", 4),
        ("Answer: x = 3\n$$\\boxed{x = 3}$$\n$$x^2$$", 1),
    ],
)
def test_where_equations_are_found(text: str, lines: int) -> None:
    assert check("What is it?", text).steps == Steps(read=lines, unread=0, gaps=())
