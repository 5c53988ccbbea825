"""An equation is found in a question that asks to solve it, in any wording, and in no other."""

from __future__ import annotations

from random import Random

import pytest

from crosspatch.grading.stated_equations import find_equation

WORDINGS = [
    "Solve for x: {}",
    "If {} what is x?",
    "If {}, what is x?",
    "{}. Solve for x.",
    "Solve the equation {} for x.",
    "Question: {}. Solve for x.",
    "Find x in the equation: {}",
    "What is the value of x if {}?",
    "What is x when {}?",
    "Solve: {}",
    "{}",
    "Solve for x {}",
    "3) {}",
    "(b) {}",
    "Solve ${}$ for $x$.",
    r"Solve \({}\). Show your steps.",
    "Solve for x:\n\n$$\n{}\n$$",
    "What is x?\n{}",
    "What's x if {}? I need a number.",
    "{}, x = ?",
]
EQUATIONS = [
    "5x = 95",
    "2x² - 28x - 11 = 11",
    "9 - 4x = 25",
    "-3x = 9",
    "x/3 + x/4 - 2 = 5",
    r"\frac{x + 1}{2} = 3",
    "2(x - 3)/5 = 7",
    "0.5x − 1.25 = 3",
    "1,000x = 5,000",
    "(x - 1)(x + 2) = 0",
    "x^{2} = 2 x + 3",
    r"3 \cdot x = \sqrt{16}",
]


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("wording", WORDINGS)
def test_any_wording(wording: str, equation: str) -> None:
    alone = find_equation(equation)
    assert alone is not None
    found = find_equation(wording.format(equation))
    if wording.endswith("x {}") and equation.startswith("-"):
        assert found is None  # x - 3x, or x and -3x?
        return
    assert found is not None
    assert found.key == alone.key
    assert found.solutions == alone.solutions


@pytest.mark.parametrize("unknown", "abcdefghjklmnopqrstuvwyzABKXθ")
def test_any_letter(unknown: str) -> None:
    rng = Random(unknown)
    for question in (
        f"If 2{unknown} - 11 = 11 what is {unknown}?",
        f"Find a number {unknown} such that 3{unknown} = 9.",
    ):
        found = find_equation(question)
        assert found is not None
        assert found.unknown == unknown
    assert find_equation(f"3{unknown} = {rng.randint(2, 9)}{'x' if unknown != 'x' else 'y'}") is None


@pytest.mark.parametrize(
    "question",
    [
        "What is the chemical formula for water?",
        "Find the derivative of f(x) = 3x²",
        "Find the slope of the tangent line to f(x) = x² at x = 3",
        "At what x-value does f(x) = x² - 4x have a minimum?",
        "If P(A) = 0.3, what is P(not A)?",
        "If f(3) = 9, find f.",
        "If 2x + 3 = 11, what is 5x - 1?",
        "If 2x = 8, what is x²?",
        "If 3x = 9, find y.",
        "Find the positive solution of x² = 4",
        "What is the sum of the roots of x² - 5x + 6 = 0?",
        "How many real roots has x² - 5x + 6 = 0?",
        "Solve 3x = 10, rounded to two digits.",
        "x + y = 5, x - y = 1",
        "Solve 2x = 4 and 3y = 9",
        "Is x = 3 a solution of 2x + 1 = 7?",
        "2x + 1 = 7 where x > 0",
        "3x ≤ 9",
        "3x != 9",
        "5 plus 3x = 20",
        "Three times a number x = 20",
        "4ab + 3x = 7",
        "sin(x) = 1",
        "2^x = 8",
        "x³ = 8",
        "3 + 4 = ?",
        "3 + 4 = 7",
        "x = 3",
        "a = ±3",
        "6/x = 3",
        "2x = 12cm",
        "2x = 9 mod 5",
        "= 5",
        "x =",
        "x" * 3_000 + " = 3",
        "π = 2 + 1",
    ],
)
def test_no_equation_to_solve(question: str) -> None:
    assert find_equation(question) is None
