"""Questions with an equation are recognised, and an answer is right if it names all solutions and no other value."""

import re
from fractions import Fraction

import pytest
import sympy
from hypothesis import example, given
from hypothesis import strategies as st

from crosspatch.data.table import Row
from crosspatch.grading.dataset_check import RowCheck, check_row
from crosspatch.grading.equations import Unreadable, readings
from crosspatch.grading.grading import grade

FORMS = [
    "We divide.\n\n**Answer:** $ \\boxed{{{}}} $",
    "We divide.\nAnswer: {}",
    "$$\nx = 99\n$$\n\n### Final answer: ${}$.",
    "{}",
]
forms = st.sampled_from(FORMS)
roots = st.fractions(-20, 20, max_denominator=6)
NO_EQUATION = "no equation in the question and no gold answer"


def check(question: str, solution: str | None, answer: str | None = None) -> RowCheck:
    return check_row(Row(1, 1, question, solution, answer))


def answered(question: str, solution: str) -> str:
    return check(question.replace("+ -", "- "), solution).answered


def number(value: Fraction) -> str:
    return re.sub(r"(\d+)/(\d+)", r"\\frac{\1}{\2}", str(value))


@given(roots, st.integers(-9, 9).filter(bool), st.integers(-30, 30), roots, forms)
def test_a_linear_equation(root: Fraction, a: int, b: int, other: Fraction, form: str) -> None:
    for question in (f"{a}k + {b} = {number(a * root + b)}", f"{a - 20}k + {b} = {number(a * root + b)} - 20k"):
        for solution in (number(root), f"k = {number(root)}"):
            assert answered(f"Solve for k: {question}", form.format(solution)) == "right"
        for solution in (number(other), f"k = {number(root)}, k = {number(other)}"):
            assert root == other or answered(f"Solve for k: {question}", form.format(solution)) == "wrong"


@given(roots, roots, st.integers(1, 9), forms)
def test_a_quadratic_equation(r: Fraction, s: Fraction, a: int, form: str) -> None:
    one, other = number(r), number(s)
    joined = [rf"x = {one} \text{{ or }} x = {other}", rf"x = {other} \text{{ or }} x = {one}", f"{one}, {other}"]
    joined += [f"x = {other} and x = {one}", f"x_1 = {one}, x_2 = {other}"]
    for question in (f"(x - ({one}))(x - ({other})) = 0", f"({a})x^2 - ({a * (r + s)})x + ({a * r * s}) = 0"):
        assert {answered(f"Solve for x: {question}", form.format(solution)) for solution in joined} == {"right"}
        for solution in (f"x = {one}", f"x = {one} or x = {number(s + 1)}"):
            assert r == s or answered(f"Solve for x: {question}", form.format(solution)) == "wrong"


@given(st.integers(1, 9), st.integers(-20, 20), st.integers(-20, 20), forms)
def test_the_formula_is_an_answer(a: int, b: int, c: int, form: str) -> None:
    question = f"{a}x² + {b}x + {c} = 0"

    def formula(b: int) -> str:
        return rf"x = \frac{{{-b} \pm \sqrt{{{b * b - 4 * a * c}}}}}{{{2 * a}}}"

    assert answered(question, form.format(formula(b))) == "right"
    if b:
        assert answered(question, form.format(formula(-b))) == "wrong"
    real = b * b >= 4 * a * c
    assert answered(question, r"\boxed{\text{no real solutions}}") == ("wrong" if real else "right")


IRRATIONAL = "2a² - 28a - 11 = 11"
VERDICTS = [
    ("5x = 95", "right", [r"So \boxed{x=19.0}", r"\boxed{\frac{95}{5}}", r"\boxed{x = \frac{95}{5} = 19}"]),
    ("5x = 95", "right", ["The solution is x = 19.", "Divide both sides by 5.\n\nx = 19"]),
    ("5x = 95", "wrong", [r"So \boxed{y=19}", "Divide by 5.\n\nx = 475", r"There is \boxed{\text{no solution}}"]),
    ("5x = 95", "unparsed", ["I do not know.", "", r"\boxed{}"]),
    ("x² = 9", "right", [r"\boxed{3} or \boxed{-3}", r"\boxed{3}, then \boxed{x = \pm 3}", r"\boxed{\{3, -3\}}"]),
    ("x² = 9", "wrong", [r"\boxed{3}"]),
    ("(x - 2)(x - 1000) = 0", "right", ["x = 2 and 1,000"]),
    (IRRATIONAL, "right", [r"\boxed{a = 7 \pm 2\sqrt{15}}", r"\boxed{7 + \sqrt{60}, 7 - \sqrt{60}}"]),
    (IRRATIONAL, "right", [r"\boxed{a \approx 14.746, a \approx -0.746}"]),
    (IRRATIONAL, "wrong", [r"\boxed{a = 7 + 2\sqrt{15}}", r"\boxed{a = 7 \pm \sqrt{38}}"]),
    ("3x = 7", "right", [r"\boxed{2.333}"]),
    ("3x = 7", "wrong", [r"\boxed{2.4}"]),
    ("2x = 7", "right", [r"\boxed{3.5}"]),
    ("2x = 7", "wrong", [r"\boxed{3.501}"]),
    ("x² + 4 = 0", "right", ["So the equation has no solution.", r"\boxed{x = \pm 2i}"]),
    ("x² + 4 = 0", "wrong", [r"\boxed{x = \pm 2}", "Answer: x = 2"]),
    ("x² + 4 = 0", "unparsed", ["Who knows?"]),
    ("2x + 1 = 2x + 6", "right", [r"\boxed{\emptyset}"]),
    ("2x + 1 = 2x + 6", "wrong", [r"\boxed{5}", r"There are \boxed{\text{infinitely many}} solutions."]),
    ("2(x + 1) = 2x + 2", "right", ["It holds for all real numbers."]),
    ("2(x + 1) = 2x + 2", "wrong", [r"\boxed{0}", "There is no solution."]),
    ("2(x + 1) = 2x + 2", "unparsed", ["Hm."]),
]


@pytest.mark.parametrize(("question", "verdict", "texts"), VERDICTS)
def test_verdicts(question: str, verdict: str, texts: list[str]) -> None:
    assert [answered(question, text) for text in texts] == [verdict] * len(texts)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"34 × (-4) + 16 \times 22", 216),
        (r"\frac{-15 + 11}{2}", -2),
        (r"\dfrac{1}{2} \cdot \left(3 - 1\right)", 1),
        (r"(-14)^2 - 4(1)(-11) + \frac12", Fraction(481, 2)),
        ("2^3 ÷ 4 − 1 - 2**3", -7),
        (r"\sqrt{196 - 52}", 12),
        ("-3^2", -9),
        ("1,234.5", Fraction("1234.5")),
        ("1{,}234", 1234),
        ("½ + .5 - -3", 4),
        ("i*i", -1),
        (r"\sqrt{-2}\sqrt{-8}", -4),
        ("1/(2 - √3) - √3", 2),
    ],
)
def test_a_number_may_be_written_in_any_way(text: str, value: int | Fraction) -> None:
    for right, off in (("right", 0), ("wrong", 1)):
        true = Fraction(value) + off
        assert answered(f"Solve {true.denominator}x = {true.numerator}", rf"\boxed{{{text}}}") == right


LEAVES = st.sampled_from(["x", "3", "-7", "2.5", "12", "√2", "x^2"])
OPERATORS = st.sampled_from([" + ", " - ", "", " * "])
SUMS = st.recursive(
    LEAVES,
    lambda inner: st.builds("({}){}({})".format, inner, OPERATORS, inner) | inner.map("({})/4".format),
    max_leaves=8,
)


@given(SUMS)
def test_an_expression_is_what_sympy_computes(text: str) -> None:
    try:
        (mine,) = readings(text, "x")
    except Unreadable:  # beyond the eighth power
        return
    for ours, theirs in (("√2", "sqrt(2)"), (")(", ")*("), ("^", "**"), ("2.5", "Rational(5, 2)")):
        text = text.replace(ours, theirs)
    assert sympy.expand(sympy.sympify(text) - mine) == 0


@given(st.integers(-(10**9), 10**9).filter(bool), st.fractions(-(10**6), 10**6, max_denominator=99))
def test_square_factors_and_numbers_in_latex(number: int, a: Fraction) -> None:
    (root,) = readings(f"√({number})", "x")
    outside = root.as_coeff_Mul()[0]
    inside = (root / outside) ** 2
    assert outside**2 * inside == number
    assert all(inside % (p * p) for p in (2, 3, 5, 7, 11, 13))
    value = sympy.Rational(a) * (1 + sympy.sqrt(abs(number) % 49 + 2))
    assert readings(sympy.latex(value), "x") == (sympy.expand(value),)


@pytest.mark.parametrize(
    "answer",
    [r"x = \frac{5}{2} \text{ or } x = \frac{3}{2}", "x = 2.5, x = 1.5", "x = 5/2", "1.5 and 2.5", "x = 3 or x = 1.5"],
)
def test_it_agrees_with_the_grading_of_generations(answer: str) -> None:
    text, gold = rf"Hence $\boxed{{{answer}}}$.", r"x = \frac{5}{2} \text{ or } x = \frac{3}{2}"
    verdict = {"correct": "right", "incorrect": "wrong"}[grade(text, gold).verdict]
    assert answered("4x² - 16x + 15 = 0", text) == verdict


@given(st.text() | st.text(alphabet="0123456789x+-*/^(){}[]√±.,=&$\n\\ frac sqrt", max_size=99), st.booleans())
@example("¹", False)
@example("x = 19²", False)
@example("x = ٣", False)
def test_no_text_makes_it_raise(text: str, asked: bool) -> None:
    found = check(text if asked else "5x = 95", text)
    assert found.answered in ("right", "wrong", "unparsed")
    assert len(found.steps.gaps) <= found.steps.read + 1
    assert all("\n" not in reason for reason in found.unclosed)


# Which questions ask for the solution of an equation.

WORDINGS = """Solve for x: {}; If {} what is x?; If {}, what is x?; {}. Solve for x.; Solve the equation {} for x.
Question: {}. Solve for x.; Find x in the equation: {}; What is the value of x if {}?
What is x when {}?; Solve: {}; Solve for x {}; 3) {}; (b) {}; Solve ${}$ for $x$.
Solve \\({}\\). Show your steps.; Solve for x:|$$|{}|$$; What is x?|{}; What's x if {}? I need a number.
{}, x = ?""".replace("\n", "; ").split("; ")
EQUATIONS = r"""5x = 95|2x² - 28x - 11 = 11|9 - 4x = 25|-3x = 9|x/3 + x/4 - 2 = 5|\frac{x + 1}{2} = 3
2(x - 3)/5 = 7|0.5x − 1.25 = 3|1,000x = 5,000|(x - 1)(x + 2) = 0|x^{2} = 2 x + 3
3 \cdot x = \sqrt{16}""".replace("\n", "|").split("|")


@pytest.mark.parametrize("wording", WORDINGS)
def test_an_equation_is_found_in_any_wording(wording: str) -> None:
    for equation in EQUATIONS:
        key = check(equation, "1").key
        found = check(wording.replace("|", "\n").format(equation), "1")
        assert check(equation, "1").reason != NO_EQUATION
        # `x -3x` may be a product or a difference.
        ambiguous = wording.endswith("x {}") and equation.startswith("-")
        assert (found.reason == NO_EQUATION) == (found.key != key) == ambiguous, equation


@pytest.mark.parametrize("unknown", "abcdefghjklmnopqrstuvwyzABKXθ")
def test_the_unknown_may_be_any_letter(unknown: str) -> None:
    asked = f"If 2{unknown} - 11 = 11 what is {unknown}?", f"Find a number {unknown} such that 3{unknown} = 9."
    for question, value in zip(asked, (11, 3), strict=True):
        assert answered(question, f"{unknown} = {value}") == "right"
        # Greek labels are not compared.
        assert unknown == "θ" or answered(question, f"i = {value}") == "wrong"
    assert check(f"3{unknown} = 7{'x' if unknown != 'x' else 'y'}", "1").reason == NO_EQUATION


NO_EQUATIONS = """What is the chemical formula for water?|Find the derivative of f(x) = 3x²
Find the slope of the tangent line to f(x) = x² at x = 3|At what x-value does f(x) = x² - 4x have a minimum?
If P(A) = 0.3, what is P(not A)?|If f(3) = 9, find f.|If 2x + 3 = 11, what is 5x - 1?|If 2x = 8, what is x²?
If 3x = 9, find y.|Find the positive solution of x² = 4|What is the sum of the roots of x² - 5x + 6 = 0?
How many real roots has x² - 5x + 6 = 0?|Solve 3x = 10, rounded to two digits.|x + y = 5, x - y = 1
Solve 2x = 4 and 3y = 9|Is x = 3 a solution of 2x + 1 = 7?|2x + 1 = 7 where x > 0|3x ≤ 9|3x != 9
5 plus 3x = 20|Three times a number x = 20|4ab + 3x = 7|sin(x) = 1|2^x = 8|x³ = 8|√2 x^2 = 4
x^2 = 9999999999999999999999|3 + 4 = ?|3 + 4 = 7|x = 3|a = ±3|6/x = 3|2x = 12cm|2x = 9 mod 5|= 5|x =
π = 2 + 1""".replace("\n", "|").split("|")


@pytest.mark.parametrize("question", [*NO_EQUATIONS, "x" * 3_000 + " = 3"])
def test_other_questions_have_no_equation_to_solve(question: str) -> None:
    assert check(question, "7").reason == NO_EQUATION


SAME = [
    ("Solve for x: 5x = 95", "Find b if  5b=95."),
    ("3 + x = 7", "k + 3 = 7"),
    (r"\frac{x}{3} = 5", "y/3 = 5"),
    ("2·(x + 3) = 10", "2(y+3) = 10"),
    ("Find x: x² - 4 = 0", r"Solve $t^{2} - 4 = 0$."),
    ("Who wrote “Faust”?", "who wrote  Faust"),
    ("What is a half-life?", "What is a half life?"),
    ("Don't stop", "don’t stop!"),
]
OTHERS = [
    *(
        ("Solve for x: 5x = 95", f"Solve for x: {other}")
        for other in ("95 = 5x", "5x = 96", "10x = 190", "5x - 95 = 0")
    ),
    ("What is 3 + 4?", "What is 3 - 4?"),
    ("What is 1.5 + 1?", "What is 15 + 1?"),
    ("What is 5!", "What is 5"),
    ("Find f'(x) if f(x) = x²", "Find f''(x) if f(x) = x²"),
    ("Find ∫ 5 dx", "Find ∫ 5x dx"),
    ("If 2x = 8, what is x?", "If 2x = 8, what is 3x?"),
]


def test_the_same_question_up_to_wording_and_another_one() -> None:
    for pairs, same in ((SAME, True), (OTHERS, False)):
        for one, other in pairs:
            assert (check(one, "1").key == check(other, "1").key) == same, (one, other)


# Without an equation the gold answer decides.


@pytest.mark.parametrize(
    ("question", "solution", "answer", "answered", "reason"),
    [
        ("Solve 3x = 9", None, "3", "right", ""),
        ("Solve 3x = 9", None, "x = 4", "wrong", ""),
        ("Solve 3x = 9", "Hm.", "3", "unparsed", "no final answer found"),
        ("Solve 3x = 9", None, None, "unparsed", "no solution and no answer"),
        ("What is 3 + 4?", r"\boxed{7}", "7", "right", ""),
        ("What is 3 + 4?", r"\boxed{8}", "7", "wrong", ""),
        ("What is 3 + 4?", "Hm.", "7", "unparsed", "no final answer found"),
        ("What is 3 + 4?", r"\boxed{7}", "[[7", "unparsed", "the gold answer cannot be read"),
        ("What is 3 + 4?", None, "7", "unparsed", NO_EQUATION),
        ("Where is the Louvre?", "It stands in Paris.", "Paris", "right", ""),
        ("What is the sum of the roots of x² = 9?", r"\boxed{0}", "0", "right", ""),
    ],
)
def test_verdicts_and_reasons(question: str, solution: str, answer: str, answered: str, reason: str) -> None:
    found = check(question, solution, answer)
    assert (found.answered, found.reason) == (answered, reason)


def test_a_gold_answer_that_does_not_solve_the_equation_and_latex_in_the_question() -> None:
    found = check("Solve 3x = 9", "x = 3", "4")
    assert (found.answered, found.wrong_gold) == ("right", True)
    for gold in ("3", "x = 3", r"\frac{9}{3}", "three", None):
        assert not check("Solve 3x = 9", "x = 4", gold).wrong_gold
    assert not check("What is 3 + 4?", "7", "8").wrong_gold
    assert check("Solve $3x = 9", r"\boxed{3}").unclosed == ("in the question, $ is not closed",)


HOSTILE = [
    *("x = " + "9^" * 100 + "9", "$$\nx = ((9^9)^9)^9\n$$", "\\boxed{1/0}", "\\boxed{" * 5_000, "$" * 20_000),
    *("{" * 5_000 + "\\right" * 5_000, "\\[" * 10_000, "=" * 20_000, "x = " + "(" * 5_000, "x = " + "9" * 5_000),
    *("x = 1 or " * 3_000, "x = 1\nx = -1\n" * 1_000, "answer: " * 3_000, "x = ٣ \u202e 𝟛 ½² √√ \ud800"),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_checked_like_others(text: str) -> None:
    for question in ("Solve x² = 1", "What?", text):
        found = check(question, text, "1")
        assert found.answered in ("right", "wrong", "unparsed")
        assert bool(found.reason) == (found.answered == "unparsed")
