"""The grader: what it reads, what counts as the same, and that nothing hurts it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspatch.config import Data
from crosspatch.data.problem import Problem
from crosspatch.data.splits import make_splits
from crosspatch.grading.grading import Grade, grade, grade_explanation, kind_of

ROOTS = r"x = 2 \text{ or } x = 3"
SPLITS = make_splits(Data(train=12, validation=12, related=0), seed=5)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        (r"**Answer:** $\boxed{x = 2 \text{ or } x = 3}$", ROOTS),
        (r"\boxed{x = 3, x = 2}", ROOTS),
        (r"\boxed{x = 2 or 3}", ROOTS),
        (r"\boxed{\{3, 2\}}", ROOTS),
        (r"$\boxed{2}$ and $\boxed{3}$", ROOTS),
        (r"\boxed{x_1 = 2, x_2 = 3}", ROOTS),
        (r"\boxed{x = \frac{5 \pm 1}{2}}", ROOTS),
        ("x = (5 ± 1)/2", ROOTS),
        ("The solutions are x = 2 and x = 3.", ROOTS),
        ("The solutions are:\n\nx = 2 and x = 3", ROOTS),
        ("Solve x - 2 = 0\n\n$$\nx = 2\n$$\n\nSolve x - 3 = 0\n\n$$\nx = 3\n$$", ROOTS),
        ("- x = 2\n- x = 3", ROOTS),
        (r"x = 3 + \sqrt{2} or x = 3 - sqrt(2)", r"x = 3 \pm \sqrt{2}"),
        ("Answer: x = 7", "x = 7"),
        ("Answer: 7", "x = 7"),
        ("**Answer:** x = 7.", "x = 7"),
        ("The answer is **7**.", "x = 7"),
        ("The answer is:\n\n$$x = 7$$", "x = 7"),
        ("### Answer\n\n7", "x = 7"),
        ("So $x$ is $7$.", "x = 7"),
        ("So x = 14/2 = 7", "x = 7"),
        ("7 = x", "x = 7"),
        ("x = −7", "x = -7"),
        (r"\begin{aligned} 2x &= 14 \\ x &= 7 \end{aligned}", "x = 7"),
        ("x = 7\n\nCheck: 2(7) + 3 = 17", "x = 7"),
        ("a = 5", "a = 5"),
        (r"\boxed{3/2}", r"x = \frac{3}{2}"),
        (r"\boxed{1.5}", r"x = \frac{3}{2}"),
        (r"\boxed{\dfrac{3}{2}}", r"\frac{3}{2}"),
        ("The area is about 50.27 cm².", r"16\pi"),
        (r"$A = \pi r^2 = 16\pi \approx 50.27$ cm", r"16\pi"),
        ("16π square units", r"16\pi"),
        ("The derivative is $f'(x) = 6x$.", "6x"),
        ("6x", "f'(x) = 6x"),
        ("dy/dx = 6x", "f'(x) = 6x"),
        ("Using the power rule, the derivative of f(x) = 3x^2 is 6x.", "6x"),
        ("12x² − 5", "12x^2 - 5"),
        (r"$\int 4x^3 dx = x^4 + C$", "x^4 + C"),
        ("∫ 4x³ dx = x⁴ + C, where C is a constant.", "x^4 + C"),
        ("x**4 + c", "x^4 + C"),
        ("x^4", "x^4 + C"),
        ("0.3333x^3 + C", r"\frac{x^3}{3} + C"),
        ("25%", r"\frac{1}{4}"),
        ("The probability is 25 percent.", r"\frac{1}{4}"),
        ("0.25", r"\frac{1}{4}"),
        ("2/8", r"\frac{1}{4}"),
        ("1 out of 4", r"\frac{1}{4}"),
        ("40", r"40\%"),
        ("0.4", r"40\%"),
        ("0.333", r"\frac{1}{3}"),
        ("1,234", "1234"),
        (r"\boxed{1{,}234}", "1234"),
        ("$\\$15$", "15"),
        (r"60^\circ", "60"),
        (r"\boxed{7 \text{ apples}}", "7"),
        (r"\boxed{\text{The answer is } 7}", "7"),
        ("log(x)", r"\ln x"),
        ("(2, 3)", "(2,3)"),
        ("x > 3", "x > 3"),
        (r"\boxed{\infty}", r"\infty"),
    ],
)
def test_the_same_answer_in_another_dress_is_correct(text: str, gold: str) -> None:
    assert grade(text, gold).verdict == "correct"


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        (r"\boxed{x = 2}", ROOTS),
        (r"\boxed{2, 3, 4}", ROOTS),
        ("The answer is 2.\nThe answer is 3.", ROOTS),
        (r"\boxed{x = \pm 2}", ROOTS),
        ("x = 8", "x = 7"),
        ("x = -7", "x = 7"),
        ("Answer: y = 7", "x = 7"),
        ("Answer: no solution", "x = 7"),
        (r"\boxed{\text{no real solutions}}", "x = 7"),
        (r"x = 7, so \boxed{x = 8}", "x = 7"),
        ("x = 1.501", r"x = \frac{3}{2}"),
        ("50.4", r"16\pi"),
        ("50", r"16\pi"),
        ("1000", "1001"),
        ("f''(x) = 6x", "f'(x) = 6x"),
        ("6x + 1", "6x"),
        ("6y", "6x"),
        ("It is 1.001x", "x"),
        ("6x + C", "6x"),
        ("x^5 + C", "x^4 + C"),
        ("25", r"\frac{1}{4}"),
        ("(2, 4)", "(2,3)"),
        (r"\boxed{-\infty}", r"\infty"),
    ],
)
def test_another_answer_is_incorrect(text: str, gold: str) -> None:
    assert grade(text, gold).verdict == "incorrect"


def test_what_was_found_is_told() -> None:
    assert grade(r"first \boxed{1}, then \boxed{x = \frac{1}{2}}", "x = 3") == Grade("incorrect", r"x = \frac{1}{2}")
    assert grade("Tokyo", "Paris") == Grade("incorrect", None)
    assert grade("I say PARIS!", "Paris") == Grade("correct", "Paris")


def test_words_are_found_whole_whatever_their_case_accents_and_punctuation() -> None:
    assert grade("It was written by william  SHAKESPEARE.", "William Shakespeare").verdict == "correct"
    assert grade("Sao Paulo", "São Paulo").verdict == "correct"
    assert grade("That's H₂O, water.", "H2O", kind="text").verdict == "correct"
    assert grade("There are seven.", "7", ["seven"], kind="text").verdict == "correct"
    assert grade("There are 7.", "7", ["seven"], kind="text").verdict == "correct"
    for wrong in ("There are 17.", "There are 3.7 of them.", "seventeen", "7,000", "???!x"):
        assert grade(wrong, "7", ["seven"], kind="text").verdict == "incorrect", wrong
    assert grade("Parisian", "Paris").verdict == "incorrect"
    assert grade(" \n", "Paris").verdict == "unparsed"
    assert grade("?!", "Paris").verdict == "unparsed"


def test_an_explanation_is_right_by_more_than_half_of_its_key_points() -> None:
    points = [["gravity", "gravitational force"], ["Earth"], ["pull", "pulls"], ["mass"]]
    assert grade_explanation("The earth pulls with a Gravitational  force.", points) == Grade(
        "correct", "gravitational force, Earth, pulls"
    )
    assert grade_explanation("The Earth pulls.", points) == Grade("incorrect", "Earth, pulls")
    assert grade_explanation("Gravity, gravity, gravitational force!", points) == Grade("incorrect", "gravity")
    assert grade_explanation("It is heavy.", points) == Grade("incorrect", None)
    assert grade_explanation("unearthly pulling massive", points) == Grade("incorrect", None)
    assert grade_explanation(" ?\n", points) == Grade("unparsed", None)


def test_an_alias_of_a_mathematical_gold_counts() -> None:
    assert grade("9", "8", ["9"]).verdict == "correct"
    assert grade("9", "8").verdict == "incorrect"


def test_the_kind_is_judged_by_the_gold() -> None:
    assert [kind_of(g) for g in (ROOTS, "x^4 + C", r"16\pi", "-sin(x)", "12 cm", "36 square meters", "")] == [
        "math"
    ] * 7
    assert [kind_of(g) for g in ("Paris", r"\text{Increasing}", "the year 1945")] == ["text"] * 3


@pytest.mark.parametrize("problem", SPLITS.validation, ids=lambda p: p.family)
def test_a_right_solution_is_correct(problem: Problem) -> None:
    assert problem.solution is not None
    assert grade(problem.solution, problem.answer).verdict == "correct"


@pytest.mark.parametrize("problem", SPLITS.train, ids=lambda p: p.family)
def test_a_wrong_solution_is_incorrect_but_correct_for_what_it_reaches(problem: Problem) -> None:
    assert problem.solution is not None
    assert problem.reached is not None
    assert grade(problem.solution, problem.answer).verdict == "incorrect"
    assert grade(problem.solution, problem.reached).verdict == "correct"


_PIECES = st.sampled_from(
    [
        *r"\{}()[]$^_=+-*/.,;:!%&#'",
        "\n",
        "\0",
        " ",
        "x",
        "7",
        "12",
        r"\boxed{",
        r"\frac{",
        r"\sqrt",
        r"\pm",
        "answer is ",
        "**Answer:** ",
        "x = ",
        " or ",
        " and ",
        "²",
        "±",
        "\u2028",
        "\ud800",
        r"\text{",
        "9^{9",
        "1,000",
        "sin",
        "√",
        "≈",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.text(), st.lists(_PIECES, max_size=25).map("".join)),
    st.sampled_from([ROOTS, "x = 5", "x^4 + C", "7", r"16\pi", "Paris"]),
)
def test_no_text_makes_it_raise(text: str, gold: str) -> None:
    found = grade(text, gold)
    assert found.verdict in ("correct", "incorrect", "unparsed")
    assert found.verdict != "unparsed" or found.extracted is None


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20))
def test_no_gold_makes_it_raise(gold: str) -> None:
    assert grade("Answer: 7", gold).verdict in ("correct", "incorrect", "unparsed")


@settings(max_examples=30, deadline=None)
@given(st.integers(-999, 999), st.integers(-999, 999))
def test_two_numbers_agree_when_they_are_equal_and_only_then(a: int, b: int) -> None:
    assert grade(f"Answer: x = {a}", f"x = {a}").verdict == "correct"
    assert (grade(rf"\boxed{{{a}}}", f"x = {b}").verdict == "correct") == (a == b)


@pytest.mark.parametrize(
    "piece",
    [
        "\\",
        "{",
        r"\boxed{",
        "}",
        "\0",
        "x=",
        "x=9^",
        "answer to ",
        r"\text{",
        "1",
        "1 or ",
        "²",
        "^(",
        "$",
        "1,000",
        "ratio 3 ",
        "1 222 ",
        "x = 6 is ",
        "=→",
        "(or 5 ",
        "(x, y) = (",
        "𝑥₁",
    ],
)
def test_long_hostile_text_is_survived(piece: str) -> None:
    for gold in ("x = 5", "7", "Paris"):
        assert grade(piece * (100_000 // len(piece)), gold).verdict in ("incorrect", "unparsed")
