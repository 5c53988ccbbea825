"""Styles: the same derivation headed, plain and tersely, and the marks in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.data.families.equations import Equation
from crosspatch.data.families.systems import Line, System
from crosspatch.data.latex import mark, plain, plain_words, taken_out, unmarked
from crosspatch.data.mistakes import RIGHT
from crosspatch.data.polynomial import Polynomial
from crosspatch.data.problem import Span
from crosspatch.data.styles import written

EQUATION = Equation(Polynomial(linear=3, constant=25), Polynomial(constant=10), "z")


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
    assert written(EQUATION.solve(RIGHT), style).text == text


def test_a_terse_factor_says_which():
    equation = Equation(Polynomial(1, -2, -48), Polynomial(), "a")
    assert written(equation.solve(RIGHT), "terse").text.splitlines()[3:6] == [
        "a - 8 = 0",
        "Add 8 to both sides:",
        "a = 8",
    ]


def test_both_equations_of_a_system_are_shown_one_by_one():
    derivation = System(Line(4, -3, 15), Line(5, 2, 13), ("s", "t")).solve(RIGHT)
    assert "$$\n4s - 3t = 15\n$$\n\n$$\n5s + 2t = 13\n$$" in written(derivation, "headed").text
    assert ";" not in written(derivation, "plain").text
    # Both scaled ones stay in a terse text.
    assert written(derivation, "terse").text.splitlines()[2:5] == [
        "Multiply the first equation by 2 and the second equation by 3:",
        "8s - 6t = 30",
        "15s + 6t = 39",
    ]


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


@given(
    st.lists(st.tuples(st.sampled_from(["word", "sign", "number", ""]), st.text(st.characters(max_codepoint=0x2FF))))
)
def test_marks_are_found_where_they_were_put(parts):
    text = "".join(mark(kind, piece) if kind else piece for kind, piece in parts)
    bare, spans = taken_out(text)
    assert bare == unmarked(text) == "".join(piece for _, piece in parts)
    assert sorted((s.kind, bare[s.start : s.end]) for s in spans) == sorted((k, p) for k, p in parts if k)


def test_marks_inside_of_marks():
    assert taken_out(f"a{mark('word', 'b' + mark('sign', '+'))}") == ("ab+", (Span("word", 1, 3), Span("sign", 2, 3)))
    assert mark("word", "b", wrong=False) == "b"
