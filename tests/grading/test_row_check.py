"""A final answer is right if it names all solutions and no other value, however it is written."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crosspatch.grading.equation import Equation
from crosspatch.grading.grading import grade
from crosspatch.grading.row_check import judge_answer
from crosspatch.grading.stated_equations import find_equation

FORMS = [
    "We divide.\n\n**Answer:** $ \\boxed{{{}}} $",
    "We divide.\nAnswer: {}",
    "$$\nx = 99\n$$\n\n### Final answer: ${}$.",
    "{}",
]
roots = st.fractions(-20, 20, max_denominator=6)


def equation(question: str) -> Equation:
    found = find_equation(question)
    assert found is not None
    return found


def number(value: Fraction) -> str:
    size = abs(value)
    text = str(size) if size.denominator == 1 else rf"\frac{{{size.numerator}}}{{{size.denominator}}}"
    return f"-{text}" if value < 0 else text


@given(roots, st.integers(-9, 9).filter(bool), st.integers(-30, 30), roots, st.sampled_from(FORMS))
def test_a_linear_equation(root: Fraction, a: int, b: int, other: Fraction, form: str) -> None:
    linear = equation(f"Solve for k: {a}k + {b} = {number(a * root + b)}".replace("+ -", "- "))
    for said in (number(root), f"k = {number(root)}"):
        assert judge_answer(form.format(said), linear) == "right"
    if other != root:
        assert judge_answer(form.format(number(other)), linear) == "wrong"
        assert judge_answer(form.format(f"k = {number(root)}, k = {number(other)}"), linear) == "wrong"


@given(roots, roots, st.sampled_from(FORMS))
def test_a_quadratic_equation(r: Fraction, s: Fraction, form: str) -> None:
    quadratic = equation(f"Solve for x: (x - ({number(r)}))(x - ({number(s)})) = 0")
    joined = [rf"x = {number(a)} \text{{ or }} x = {number(b)}" for a, b in ((r, s), (s, r))]
    joined += [
        f"{number(r)}, {number(s)}",
        f"x = {number(s)} and x = {number(r)}",
        f"x_1 = {number(r)}, x_2 = {number(s)}",
    ]
    for said in joined:
        assert judge_answer(form.format(said), quadratic) == "right"
    if r != s:
        assert judge_answer(form.format(f"x = {number(r)}"), quadratic) == "wrong"
        assert judge_answer(form.format(f"x = {number(r)} or x = {number(s + 1)}"), quadratic) == "wrong"


@given(st.integers(1, 9), st.integers(-20, 20), st.integers(-20, -1), st.sampled_from(FORMS))
def test_the_formula_is_an_answer(a: int, b: int, c: int, form: str) -> None:
    quadratic = equation(f"{a}x² + {b}x - {-c} = 0".replace("+ -", "- "))

    def formula(b: int) -> str:
        return rf"x = \frac{{{-b} \pm \sqrt{{{b * b - 4 * a * c}}}}}{{{2 * a}}}"

    assert judge_answer(form.format(formula(b)), quadratic) == "right"
    if b:
        assert judge_answer(form.format(formula(-b)), quadratic) == "wrong"


IRRATIONAL, THIRD, HALF = "2a² - 28a - 11 = 11", "3x = 7", "2x = 7"


@pytest.mark.parametrize(
    ("question", "text", "verdict"),
    [
        ("5x = 95", r"So $ \boxed{475} $", "wrong"),
        ("5x = 95", r"So \boxed{19}", "right"),
        ("5x = 95", r"So \boxed{x=19.0}", "right"),
        ("5x = 95", r"So \boxed{y=19}", "wrong"),
        ("5x = 95", r"\boxed{\frac{95}{5}}", "right"),
        ("5x = 95", r"\boxed{x = \frac{95}{5} = 19}", "right"),
        ("5x = 95", "The solution is x = 19.", "right"),
        ("5x = 95", "Divide both sides by 5.\n\nx = 19", "right"),
        ("5x = 95", "Divide both sides by 5.\n\nx = 475", "wrong"),
        ("5x = 95", "I do not know.", "unparsed"),
        ("5x = 95", "", "unparsed"),
        ("5x = 95", r"\boxed{}", "unparsed"),
        ("5x = 95", r"There is \boxed{\text{no solution}}", "wrong"),
        ("x² = 9", r"\boxed{3} or \boxed{-3}", "right"),
        ("x² = 9", r"\boxed{3}, then \boxed{x = \pm 3}", "right"),
        ("x² = 9", r"\boxed{\{3, -3\}}", "right"),
        ("x² = 9", r"\boxed{3}", "wrong"),
        (IRRATIONAL, r"\boxed{a = 7 \pm 2\sqrt{15}}", "right"),
        (IRRATIONAL, r"\boxed{7 + \sqrt{60}, 7 - \sqrt{60}}", "right"),
        (IRRATIONAL, r"\boxed{a = 7 + 2\sqrt{15}}", "wrong"),
        (IRRATIONAL, r"\boxed{a = 7 \pm \sqrt{38}}", "wrong"),
        (IRRATIONAL, r"\boxed{a \approx 14.746, a \approx -0.746}", "right"),
        (THIRD, r"\boxed{2.333}", "right"),
        (THIRD, r"\boxed{2.4}", "wrong"),
        (HALF, r"\boxed{3.5}", "right"),
        (HALF, r"\boxed{3.501}", "wrong"),
        ("x² + 4 = 0", r"\boxed{\text{no real solutions}}", "right"),
        ("x² + 4 = 0", "So the equation has no solution.", "right"),
        ("x² + 4 = 0", r"\boxed{x = \pm 2i}", "right"),
        ("x² + 4 = 0", r"\boxed{x = \pm 2}", "wrong"),
        ("x² + 4 = 0", "Answer: x = 2", "wrong"),
        ("x² + 4 = 0", "Who knows?", "unparsed"),
        ("2x + 1 = 2x + 6", r"\boxed{\emptyset}", "right"),
        ("2x + 1 = 2x + 6", r"\boxed{5}", "wrong"),
        ("2x + 1 = 2x + 6", r"There are \boxed{\text{infinitely many}} solutions.", "wrong"),
        ("2(x + 1) = 2x + 2", "It holds for all real numbers.", "right"),
        ("2(x + 1) = 2x + 2", r"\boxed{0}", "wrong"),
        ("2(x + 1) = 2x + 2", "There is no solution.", "wrong"),
        ("2(x + 1) = 2x + 2", "Hm.", "unparsed"),
    ],
)
def test_verdicts(question: str, text: str, verdict: str) -> None:
    assert judge_answer(text, equation(question)) == verdict


@pytest.mark.parametrize(
    "said",
    [r"x = \frac{5}{2} \text{ or } x = \frac{3}{2}", "x = 2.5, x = 1.5", "x = 5/2", "1.5 and 2.5", "x = 3 or x = 1.5"],
)
def test_it_agrees_with_the_grading_of_generations(said: str) -> None:
    quadratic = equation("4x² - 16x + 15 = 0")
    text = rf"Hence $\boxed{{{said}}}$."
    assert {"correct": "right", "incorrect": "wrong"}[grade(text, quadratic.latex).verdict] == judge_answer(
        text, quadratic
    )


@given(st.text())
@example("¹")
@example("x = 19²")
@example("x = ٣")
def test_no_text_makes_it_raise(text: str) -> None:
    assert judge_answer(text, equation("5x = 95")) in ("right", "wrong", "unparsed")
