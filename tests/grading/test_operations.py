"""Operations: read in every wording, normalised, and judged right or planted by the stated rule."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspatch.data.problem import Operation, Problem
from crosspatch.grading.operations import judge_operation


def _problem(question: str, right: str, planted: str) -> Problem:
    def listed(text: str) -> tuple[Operation, ...]:
        return tuple(Operation(*entry.split(" ", 1)) for entry in text.split("; "))

    lists = {"right_operations": listed(right), "planted_operations": listed(planted)}
    return Problem("x", "related", "f", question, "x = 1", **lists)


LINEAR = _problem("Solve for x: 5x + 3 = 2x - 9", "subtract 2x; subtract 3; divide 3", "add 2x; subtract 3; multiply 7")
QUADRATIC = _problem("What is y if 4y² - 60y + 75 = 8y + 13?", "subtract 8y + 13; add 16; add 1", "add 8y + 13")
BRACKETS = _problem("Find a: -4(a + 3) = 24", "add 12; divide -4", "subtract 12; multiply -4")
FACTORS = _problem("Find p: p² + 3p - 4 = 0", "add 1; subtract 4", "subtract 1; add 4")


@pytest.mark.parametrize(
    ("operation", "texts"),
    [
        ("subtract 5x - 11", ["Subtract 5x - 11 from both sides", "add $-5x + 11$ to both sides"]),
        ("subtract 5", ["subtracting 5 from each side", "First, we subtract 5 from both sides of the equation:"]),
        ("subtract 5", ["we subtract the constant 5 from both sides", "subtract 5 (the constant) from both sides"]),
        ("subtract -13", ["Add $13$ to both sides", "add 13 on both sides", r"adding \(13\) \text{ to both sides}"]),
        ("subtract 4y²", ["**Subtract** `4y²` from both sides"]),
        ("subtract -15", ["subtract −15 from both sides"]),
        ("subtract 2x + 6", ["Subtract 2(x + 3) from both sides"]),
        ("subtract x/4", [r"subtract \(\dfrac{x}{4}\) from both sides"]),
        ("subtract -3a", ["We add 3a to both sides and then divide both sides by 4."]),
        ("divide 8", ["Divide both sides by 8", "dividing both sides of the equation by 8 to get x"]),
        ("divide 8", ["divide by 8 on both sides", "divide both sides by the coefficient of $x$, which is $8$."]),
        ("divide 8", [r"multiply both sides by $\frac{1}{8}$", r"multiply both sides by $\frac18$"]),
        ("divide 8", ["divide both sides by 8 (the coefficient of x): x = 3"]),
        ("divide -3", ["divide each side by (-3)."]),
        ("divide 1/14", ["**Multiply** both sides by $14$:"]),
        ("divide 1/8", ["divide both sides by 1/8"]),
        # No operation on both sides.
        (None, ["", "Add both sides", "5 is added", "divide both sides by 0"]),
        (None, ["Move 5 to the right side", "Divide by 2", "add 3 to 4"]),
    ],
)
def test_a_stated_operation_is_read_in_any_wording(operation: str | None, texts: list[str]) -> None:
    # Each operation is the right one of one problem and the planted one of another, whose equations do not have it.
    listed = operation or "subtract 5"
    for told, lists in (("right", (listed, "add 777")), ("planted", ("add 777", listed))):
        judged = [judge_operation(text, _problem("Solve for q: q = 9", *lists)) for text in texts]
        assert judged == [told if operation else "neither"] * len(texts)


@pytest.mark.parametrize(
    ("problem", "stated", "right", "planted"),
    [
        (LINEAR, "", "Subtract 2x from both sides", "Add 2x to both sides"),
        (LINEAR, "", "Subtract 5x from both sides", "Add 5x to both sides"),  # in another order than ours
        (LINEAR, "", "Add 9 to both sides", "Subtract 9 from both sides"),
        (LINEAR, "", "Subtract -9 from both sides", "Subtract 77 from both sides. Then multiply both sides by 3."),
        (LINEAR, "", "Divide both sides by 5", "Multiply both sides by 5"),
        (LINEAR, "The equation is 3x + 77 = 12. ", "Subtract 77 from both sides", "Add 77 to both sides"),
        (QUADRATIC, "The equation is 4y² - 60y + 75 = 14. ", "Subtract 14 from both sides", "Add 14 to both sides"),
        (QUADRATIC, "", "Add 60y to both sides", "Subtract 60y from both sides"),
        (BRACKETS, "", "Subtract 24 from both sides", "Add 24 to both sides"),
        (FACTORS, "Factor: (p - 1)(p + 4) = 0. ", "Subtract 4 from both sides", "Add 4 to both sides"),
        (FACTORS, "(p - 2)(p + 6) = 0. Solve p + 6 = 0. ", "Subtract 6 from both sides", "Add 6 to both sides"),
    ],
)
def test_an_operation_and_its_opposite(problem: Problem, stated: str, right: str, planted: str) -> None:
    assert judge_operation(stated + right, problem) == "right"
    assert judge_operation(stated + planted, problem) == "planted"


@pytest.mark.parametrize(
    ("problem", "text", "told"),
    [
        (LINEAR, "Subtract 2x - 9 from both sides", "right"),
        (LINEAR, "Multiply both sides by 1/5", "right"),
        (LINEAR, "The equation is x/3 - 77 = 12. Add 77 to both sides", "right"),
        (LINEAR, "The equation is 77 - 3x = 12. Subtract 77 from both sides", "right"),
        (LINEAR, "The equation is 3x + 77 = 14. Subtract 3x + 77 from both sides", "right"),
        # The end of a quadratic side is no side.
        (LINEAR, "The equation is x² + 3x + 77 = 14. Subtract 3x + 77 from both sides", "neither"),
        (LINEAR, "Multiply both sides by -1", "neither"),
        (LINEAR, "Multiply both sides by 7, then subtract 2x from both sides", "planted"),
        (LINEAR, "Add both sides by 77, then subtract 2x from both sides", "right"),
        (LINEAR, "Subtract 77 from both sides", "neither"),
        (LINEAR, "Answer: x = -4", "neither"),
        (LINEAR, "", "neither"),
        (QUADRATIC, "Subtract 8y + 13 from both sides", "right"),
        (QUADRATIC, "Subtract 13 from both sides", "right"),
        (QUADRATIC, "Divide both sides by 4", "neither"),  # a common factor tells nothing
        (QUADRATIC, "Add 16 to both sides", "neither"),  # a factor's operation before there are factors
        (QUADRATIC, "(y - 16)(y - 1) = 0. Add 16 to both sides", "right"),
        (FACTORS, "Add 4 to both sides", "right"),  # the constant is moved, nothing is factored yet
    ],
)
def test_the_rule(problem: Problem, text: str, told: str) -> None:
    assert judge_operation(text, problem) == told


def test_a_term_with_both_signs_or_without_operations_tells_nothing_unless_the_lists_do() -> None:
    assert judge_operation("Add 3 to both sides", replace(LINEAR, right_operations=())) is None
    problem = _problem("Solve for x: 5x + 3 = 2x - 3", "subtract 2x; divide 3", "add 2x; multiply 7")
    assert judge_operation("Add 3 to both sides", problem) == "neither"
    listed = _problem("Solve for x: 5x + 3 = 2x - 3", "subtract 2x; subtract 3", "add 2x; add 3")
    assert judge_operation("Add 3 to both sides", listed) == "planted"


PIECES = ["add ", " from both sides ", "divide both sides by ", "\\frac{", "}{", "factor", *"51x0}-.\n="]


@settings(max_examples=50)
@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_no_text_makes_it_raise(text: str) -> None:
    assert {judge_operation(text, problem) for problem in (LINEAR, FACTORS)} <= {"right", "planted", "neither"}
