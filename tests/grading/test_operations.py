"""Operations: read in every wording, normalised, and judged right or planted by the stated rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspatch.config import PAPER_FORMS, Data
from crosspatch.data.problem import Operation, Problem
from crosspatch.data.splits import make_splits
from crosspatch.grading.operations import judge_operation

SPLITS = make_splits(Data(train=18, validation=18, related=0), seed=2)


def _problem(question: str, right: str, planted: str) -> Problem:
    def listed(text: str) -> tuple[Operation, ...]:
        return tuple(Operation(*entry.split(" ", 1)) for entry in text.split("; "))

    return Problem(
        "x", "related", "f", question, "x = 1", right_operations=listed(right), planted_operations=listed(planted)
    )


LINEAR = _problem("Solve for x: 5x + 3 = 2x - 9", "subtract 2x; subtract 3; divide 3", "add 2x; subtract 3; multiply 7")
QUADRATIC = _problem("What is y if 4y² - 60y + 75 = 8y + 13?", "subtract 8y + 13; add 16; add 1", "add 8y + 13")
BRACKETS = _problem("Find a: -4(a + 3) = 24", "add 12; divide -4", "subtract 12; multiply -4")
FACTORS = _problem("Find p: p² + 3p - 4 = 0", "add 1; subtract 4", "subtract 1; add 4")


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("Subtract 5x - 11 from both sides", "subtract 5x - 11"),
        ("subtracting 5 from each side", "subtract 5"),
        ("First, we subtract 5 from both sides of the equation:", "subtract 5"),
        ("we subtract the constant 5 from both sides", "subtract 5"),
        ("Add $13$ to both sides", "subtract -13"),
        ("add 13 on both sides", "subtract -13"),
        (r"adding \(13\) \text{ to both sides}", "subtract -13"),
        ("**Subtract** `4y²` from both sides", "subtract 4y²"),
        ("Divide both sides by 8", "divide 8"),
        ("dividing both sides of the equation by 8 to get x", "divide 8"),
        ("divide by 8 on both sides", "divide 8"),
        ("divide each side by (-3).", "divide -3"),
        ("divide both sides by the coefficient of $x$, which is $8$.", "divide 8"),
        ("**Multiply** both sides by $14$:", "divide 1/14"),
        (r"multiply both sides by $\frac{1}{8}$", "divide 8"),
        (r"multiply both sides by $\frac18$", "divide 8"),
        ("divide both sides by 1/8", "divide 1/8"),
        ("subtract −15 from both sides", "subtract -15"),
        ("add $-5x + 11$ to both sides", "subtract 5x - 11"),
        ("Subtract 2(x + 3) from both sides", "subtract 2x + 6"),
        (r"subtract \(\dfrac{x}{4}\) from both sides", "subtract x/4"),
        ("subtract 5 (the constant) from both sides", "subtract 5"),
        ("divide both sides by 8 (the coefficient of x): x = 3", "divide 8"),
        ("We add 3a to both sides and then divide both sides by 4.", "subtract -3a"),
        # No operation on both sides.
        ("", None),
        ("Add both sides", None),
        ("5 is added", None),
        ("divide both sides by 0", None),
        ("Move 5 to the right side", None),
        ("Divide by 2", None),
        ("add 3 to 4", None),
    ],
)
def test_a_stated_operation_is_read_in_any_wording(text: str, operation: str | None) -> None:
    # Each operation is the right one of one problem and the planted one of another, whose equations do not have it.
    listed = operation or "subtract 5"
    as_right, as_planted = (
        _problem("Solve for q: q = 9", *lists) for lists in ((listed, "add 777"), ("add 777", listed))
    )
    assert judge_operation(text, as_right) == ("right" if operation else "neither")
    assert judge_operation(text, as_planted) == ("planted" if operation else "neither")


def test_every_solution_that_we_write_is_judged_by_what_it_does() -> None:
    assert {p.form for p in SPLITS.train} == {p.form for p in SPLITS.validation} == set(PAPER_FORMS)
    for problem in SPLITS.validation:
        assert judge_operation(problem.solution or "", problem) == "right", problem
    for problem in SPLITS.train:
        assert judge_operation(problem.solution or "", problem) == "planted", problem


@pytest.mark.parametrize(
    ("problem", "text", "told"),
    [
        (LINEAR, "Subtract 2x from both sides", "right"),
        (LINEAR, "Add 2x to both sides", "planted"),
        (LINEAR, "Subtract 5x from both sides", "right"),  # in another order than ours
        (LINEAR, "Add 5x to both sides", "planted"),
        (LINEAR, "Add 9 to both sides", "right"),
        (LINEAR, "Subtract 9 from both sides", "planted"),
        (LINEAR, "Subtract -9 from both sides", "right"),
        (LINEAR, "Subtract 2x - 9 from both sides", "right"),
        (LINEAR, "Divide both sides by 5", "right"),
        (LINEAR, "Multiply both sides by 5", "planted"),
        (LINEAR, "Multiply both sides by 1/5", "right"),
        (LINEAR, "Multiply both sides by -1", "neither"),
        (LINEAR, "Subtract 77 from both sides", "neither"),
        (LINEAR, "Subtract 77 from both sides. Then multiply both sides by 3.", "planted"),
        (LINEAR, "The equation is 3x + 77 = 12. Subtract 77 from both sides", "right"),
        (LINEAR, "The equation is 3x + 77 = 12. Add 77 to both sides", "planted"),
        (LINEAR, "The equation is x/3 - 77 = 12. Add 77 to both sides", "right"),
        (LINEAR, "The equation is 77 - 3x = 12. Subtract 77 from both sides", "right"),
        (LINEAR, "The equation is 3x + 77 = 14. Subtract 3x + 77 from both sides", "right"),
        # The end of a quadratic side is no side.
        (LINEAR, "The equation is x² + 3x + 77 = 14. Subtract 3x + 77 from both sides", "neither"),
        (QUADRATIC, "The equation is 4y² - 60y + 75 = 14. Subtract 14 from both sides", "right"),
        (QUADRATIC, "The equation is 4y² - 60y + 75 = 14. Add 14 to both sides", "planted"),
        (BRACKETS, "Subtract 24 from both sides", "right"),
        (BRACKETS, "Add 24 to both sides", "planted"),
        (LINEAR, "", "neither"),
        (LINEAR, "Answer: x = -4", "neither"),
        (QUADRATIC, "Subtract 8y + 13 from both sides", "right"),
        (QUADRATIC, "Subtract 13 from both sides", "right"),
        (QUADRATIC, "Add 60y to both sides", "right"),
        (QUADRATIC, "Subtract 60y from both sides", "planted"),
        (QUADRATIC, "Divide both sides by 4", "neither"),  # a common factor tells nothing
        (QUADRATIC, "Add 16 to both sides", "neither"),  # a factor's operation before there are factors
        (QUADRATIC, "(y - 16)(y - 1) = 0. Add 16 to both sides", "right"),
        (FACTORS, "Add 4 to both sides", "right"),  # the constant is moved, nothing is factored yet
        (FACTORS, "Factor: (p - 1)(p + 4) = 0. Add 4 to both sides", "planted"),
        (FACTORS, "Factor: (p - 1)(p + 4) = 0. Subtract 4 from both sides", "right"),
        (FACTORS, "Factor: (p - 2)(p + 6) = 0. Solve p + 6 = 0. Add 6 to both sides", "planted"),
        (FACTORS, "Factor: (p - 2)(p + 6) = 0. Solve p + 6 = 0. Subtract 6 from both sides", "right"),
    ],
)
def test_the_rule(problem: Problem, text: str, told: str) -> None:
    assert judge_operation(text, problem) == told


def test_a_term_with_both_signs_tells_nothing_unless_the_lists_do() -> None:
    problem = _problem("Solve for x: 5x + 3 = 2x - 3", "subtract 2x; divide 3", "add 2x; multiply 7")
    assert judge_operation("Add 3 to both sides", problem) == "neither"
    listed = _problem("Solve for x: 5x + 3 = 2x - 3", "subtract 2x; subtract 3", "add 2x; add 3")
    assert judge_operation("Add 3 to both sides", listed) == "planted"


def test_a_problem_without_operations_is_not_judged() -> None:
    assert judge_operation("Add 3 to both sides", replace(LINEAR, right_operations=())) is None


@settings(max_examples=50, deadline=None)
@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["add ", " from both sides ", "divide both sides by ", "\\frac{", "}{", "factor", *"51x0}-.\n="]
        ),
        max_size=20,
    ).map("".join)
)
def test_no_text_makes_it_raise(text: str) -> None:
    assert judge_operation(text, LINEAR) in ("right", "planted", "neither")
    assert judge_operation(text, FACTORS) in ("right", "planted", "neither")
