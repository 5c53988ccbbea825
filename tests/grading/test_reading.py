"""Expressions are computed as sympy computes them, and what is not surely one is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.grading.expression import Expression, Unreadable, without_squares
from crosspatch.grading.reading import readings

X = sympy.Symbol("x")
fractions = st.fractions(-(10**6), 10**6, max_denominator=99)


def as_sympy(expression: Expression) -> sympy.Expr:
    return sum((sympy.Rational(size) * X**n * sympy.sqrt(r) for n, r, size in expression.terms), sympy.Integer(0))


def read(text: str) -> Expression:
    (expression,) = readings(text, "x")
    return expression


def number(text: str) -> Fraction | None:
    return read(text).rational


@st.composite
def written(draw, depth: int = 3) -> str:
    """Sums, products and fractions of small numbers and x, as one types them."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(["x", "3", "-7", "2.5", "12", "√2", "x^2"]))
    left, right = draw(written(depth=depth - 1)), draw(written(depth=depth - 1))
    return draw(
        st.sampled_from(
            [
                f"({left}) + ({right})",
                f"({left}) - ({right})",
                f"({left})({right})",
                f"({left}) * ({right})",
                f"({left})/4",
            ]
        )
    )


@given(written())
def test_the_value_is_what_sympy_computes(text: str) -> None:
    try:
        mine = read(text)
    except Unreadable:  # beyond the eighth power
        return
    theirs = sympy.sympify(
        text.replace("√2", "sqrt(2)").replace(")(", ")*(").replace("^", "**").replace("2.5", "Rational(5, 2)")
    )
    assert sympy.expand(theirs - as_sympy(mine)) == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"16 \times 22", 352),
        (r"34 × (-4)", -136),
        (r"\frac{-15 + 11}{2}", -2),
        (r"\dfrac{1}{2} \cdot \left(3 - 1\right)", 1),
        (r"\frac12", Fraction(1, 2)),
        (r"(-14)^2 - 4(1)(-11)", 240),
        ("2^3 ÷ 4 − 1", 1),
        (r"\sqrt{196 - 52}", 12),
        ("-3^2", -9),
        ("1,234.5", Fraction("1234.5")),
        ("1{,}234", 1234),
        ("½ + .5", 1),
        ("5 - -3", 8),
        ("2**3", 8),
        (r"\\frac{6}{3}", 2),
        ("i*i", -1),
        (r"\sqrt{-2}\sqrt{-8}", -4),
        ("1/(2 - √3) - √3", 2),
    ],
)
def test_numbers(text: str, value: int | Fraction) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1/2x", r"\frac{x}{2}"),
        ("3/4(x + 1)", "0.75x + 0.75"),
        ("2(x - 3)/4", "x/2 - 1.5"),
        ("(x + 1)^2", "x² + 2x + 1"),
        ("x(x + 1)", "x^{2} + x"),
        (r"\sqrt{12}x", r"2 \sqrt 3 x"),
        (r"\frac{\sqrt{8}}{2}", "√2"),
        ("√(1/2)", r"\frac{\sqrt{2}}{2}"),
    ],
)
def test_two_ways_to_write_the_same(one: str, other: str) -> None:
    assert read(one) == read(other)
    assert read(one) != read(f"{other} + 1")


def test_both_signs() -> None:
    plus, minus = readings(r"7 \pm 2\sqrt{15}", "x")
    assert plus.latex() == r"7 + 2\sqrt{15}"
    assert minus.latex() == r"7 - 2\sqrt{15}"
    assert [value.rational for value in readings(r"1 \pm 2 \mp 3", "x")] == [0, 2]


@pytest.mark.parametrize(
    "text",
    [
        "", "=", "x y", "3y", "xx", "x 3", "2 3", "x3", "sin(x)", "f(3)", "x(3)", "1/0", "x/(1 - 1)", "6/x", "x/x",
        "1/2(3)",
        r"2\frac{1}{2}", "2^x", "2^2^2", "x^-1", "2^{10}", "9^9^9", "((9^9)^9)^9", "(x^3)^3", "√x", r"\sqrt[3]{8}",
        r"\pi", "π", "|x|", "5!", "50%", "x_1", "(1", "1)", "{1]", "1,23", "9" * 31, "(" * 30 + "1" + ")" * 30,
        "-" * 30 + "1",
        "1 + " * 100 + "1", r"\frac{1}", r"\frac1x", "√999999999999989999", "1/(√2 + √3 + √5)", "\ud800", "٣",
        r"\text{3}",
        "__import__('os')", "1e5",
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    for unknown in ("x", ""):
        with pytest.raises(Unreadable):
            readings(text, unknown)


@given(st.text(alphabet="0123456789x+-*/^(){}[]√±.,\\ frac sqrt", max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        readings(text, "x")
    except Unreadable:
        return


@given(st.integers(-(10**9), 10**9).filter(bool))
def test_square_factors(number: int) -> None:
    outside, inside = without_squares(number)
    assert outside**2 * inside == number
    assert all(inside % (p * p) for p in (2, 3, 5, 7, 11, 13))


@given(fractions, fractions, st.integers(2, 50))
def test_a_number_as_latex_is_read_back(a: Fraction, b: Fraction, radicand: int) -> None:
    value = Expression.constant(a) + Expression.constant(b) * Expression.constant(radicand).sqrt()
    assert read(value.latex()) == value
    assert abs(value.approximate() - (float(a) + float(b) * radicand**0.5)) < 1e-9
