"""Equations have the solutions that they were made of, and no others."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crosspatch.grading.equation import Equation, Solutions, alternatives, solve_all
from crosspatch.grading.expression import Expression, Unreadable
from crosspatch.grading.reading import readings

rationals = st.fractions(-20, 20, max_denominator=9)


def equation(text: str, unknown: str = "x") -> Equation:
    left, right = text.split("=")
    return Equation.of(left, right, unknown)


def values(*numbers: int | Fraction) -> Solutions:
    return Solutions(frozenset(map(Expression.constant, numbers)))


@given(rationals, rationals, rationals.filter(bool))
def test_a_product_of_two_factors_has_their_roots(r: Fraction, s: Fraction, a: Fraction) -> None:
    assert equation(f"({a})x^2 - ({a * (r + s)})x + ({a * r * s}) = 0").solutions == values(r, s)
    assert equation(f"({a})(x - ({r}))(x - ({s})) = 0").solutions == values(r, s)
    assert equation(f"(x - ({r})) = (x - ({r}))(x - ({s}) + 1)").solutions == values(r, s)


@given(rationals, rationals, rationals, rationals)
def test_a_linear_equation_has_one_root(a: Fraction, b: Fraction, c: Fraction, d: Fraction) -> None:
    assume(a != c)
    assert equation(f"({a})t + ({b}) = ({c})t + ({d})", "t").solutions == values((d - b) / (a - c))


@given(st.integers(-30, 30), st.integers(-30, 30), st.integers(-30, 30).filter(bool))
def test_the_formula_gives_what_the_equation_has(b: int, c: int, a: int) -> None:
    solved = equation(f"({a})x^2 + ({b})x + ({c}) = 0").solutions
    formula = readings(rf"\frac{{-({b}) \pm \sqrt{{({b})^2 - 4({a})({c})}}}}{{2({a})}}", "x")
    assert Solutions(frozenset(formula)) == solved
    assert bool(solved.real) == (b * b >= 4 * a * c)


def test_no_solution_and_all() -> None:
    assert equation("2x + 1 = 2x + 6").solutions.none
    assert equation("2(x + 1) = 2x + 2").solutions == Solutions(everything=True)
    assert not equation("2x + 1 = x").solutions.none


def test_the_same_sign_goes_with_the_same() -> None:
    sides = [readings(text, "x") for text in (r"x \pm 1", r"\pm 3")]
    assert solve_all(*sides) == values(2, -2)
    assert solve_all(readings("x", "x"), sides[1]) == values(3, -3)


@pytest.mark.parametrize("text", ["x^3 = 8", "x^2 = 2/x", "√2 x^2 = 4", "x y = 4", "x^2 = 9999999999999999999999"])
def test_what_is_beyond(text: str) -> None:
    with pytest.raises(Unreadable):
        equation(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5x = 95", "5b=95"),
        ("3 + x = 7", "k + 3 = 7"),
        (r"\frac{x}{3} = 5", "y/3 = 5"),
        ("x² - 4 = 0", "z^{2} - 4 = 0"),
        ("2·(x + 3) = 10", "2(y+3) = 10"),
    ],
)
def test_written_the_same(one: str, other: str) -> None:
    letter = next(char for char in reversed(other) if char in "bkyz")
    assert equation(one).key == equation(other, letter).key


@pytest.mark.parametrize("other", ["95 = 5x", "10x = 190", "x = 19", "5x = 96", "5(x) = 95", "5x - 95 = 0"])
def test_written_otherwise(other: str) -> None:
    try:
        assert equation("5x = 95").key != equation(other).key
    except Unreadable:
        assert "(x)" in other


def test_alternatives() -> None:
    assert alternatives(r"y = 11 \text{ or } y = 2") == ["y = 11", "y = 2"]
    assert alternatives("x = 2, -3 and 1,000") == ["x = 2", "-3", "1,000"]
    assert alternatives(r"x = \frac{1}{2}; x=3 \quad") == [r"x = \frac{1}{2}", "x=3"]
    assert alternatives("normal and") == ["normal"]


def test_the_answer_in_latex() -> None:
    assert equation("2a^2 - 28a - 11 = 11", "a").latex == r"a = 7 + 2\sqrt{15} \text{ or } a = 7 - 2\sqrt{15}"
    assert equation("4x = 6").latex == r"x = \frac{3}{2}"
