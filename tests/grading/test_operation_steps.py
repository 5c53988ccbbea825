"""Operations part by part: worked by hand, and on made problems, whose spans say where the mistake stands."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspatch.config import Data
from crosspatch.data.forms import FORMS
from crosspatch.data.mistakes import MISTAKES
from crosspatch.data.problem import Operation, Problem
from crosspatch.data.splits import ProblemMaker
from crosspatch.grading.operation_steps import judge_parts

MADE = [
    (form, mistake, style)
    for form in FORMS
    for mistake in ("inverted_operation", "added_for_subtracted", "multiplied_for_divided")
    if mistake in FORMS[form].mistakes
    for style in ("headed", "plain", "terse")
]


def problem(question: str, right: str, planted: str) -> Problem:
    listed = [[Operation(*entry.split(" ", 1)) for entry in text.split("; ")] for text in (right, planted)]
    return Problem(
        "p", "related", "f", question, "", right_operations=tuple(listed[0]), planted_operations=tuple(listed[1])
    )


LINEAR = problem("Solve for x: 5x + 6 = 18", "subtract 6; divide 5", "add 6; multiply 5")
BOTH = problem("Solve for x: 7x + 3 = 2x - 12", "subtract 2x; subtract 3; divide 5", "add 2x; add 3; multiply 9")
MOVES_ONLY = problem("Solve for x: 5x + 6 = 18", "subtract 6; divide 5", "add 6; divide 5")
HALF = problem("Solve for x: x/4 = 6", "multiply 4", "divide 4")
ROOTS = problem("Solve for p: p² + 3p - 4 = 0", "add 1; subtract 4", "subtract 1; add 4")


def said(text: str, asked: Problem = LINEAR) -> str:
    """`0 word right, …`: the verdicts in short."""
    return ", ".join(f"{v.move} {v.part} {v.verdict}" for v in judge_parts(text, asked))


def test_a_right_solution_worked_by_hand() -> None:
    text = "Subtract 6 from both sides:\n5x = 18 - 6\n5x = 12\nDivide both sides by 5:\nx = 12/5"
    assert said(text) == ("0 word right, 0 sign right, 0 number right, 1 word right, 1 sign right, 1 number right")
    assert [v.kind for v in judge_parts(text, LINEAR)] == ["move"] * 3 + ["isolate"] * 3


def test_a_wrong_solution_worked_by_hand() -> None:
    text = "Add 6 to both sides:\n5x = 18 + 6\n5x = 24\nMultiply both sides by 5:\nx = 24 × 5\nx = 120"
    assert said(text) == (
        "0 word planted, 0 sign planted, 0 number planted, 1 word planted, 1 sign planted, 1 number planted"
    )


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        # The word and what is done part ways.
        ("Add 6 to both sides:\n5x = 18 - 6\n5x = 12", "0 word planted, 0 sign right, 0 number right"),
        ("Subtract 6 from both sides:\n5x = 18 + 6\n5x = 24", "0 word right, 0 sign planted, 0 number planted"),
        ("Subtract 6 from both sides:\n5x = 24", "0 word right, 0 number planted"),
        # A slip in arithmetic is nobody's plan; what follows is held against what stands there.
        ("Subtract 6 from both sides:\n5x = 18 - 6\n5x = 13", "0 word right, 0 sign right, 0 number neither"),
        (
            "Subtract 6 from both sides:\n5x = 13\nDivide both sides by 5:\nx = 13/5",
            "0 word right, 0 number neither, 1 word right, 1 sign right, 1 number right",
        ),
        (
            "Add 6 to both sides:\n5x = 24\nMultiply both sides by 5:\nx = 100",
            "0 word planted, 0 number planted, 1 word planted, 1 number neither",
        ),
        # A number copied wrongly beside the right sign.
        ("Subtract 6 from both sides:\n5x = 19 - 6\n5x = 13", "0 word right, 0 sign right, 0 number neither"),
        # In other words, on both sides, on one line, without a line.
        (
            "First we subtract $6$ from each side: $5x + 6 - 6 = 18 - 6$, so $5x = 12$.",
            "0 word right, 0 sign right, 0 number right",
        ),
        (
            "Subtracting 6 from both sides of the equation 5x + 6 = 18 gives 5x = 12. Then dividing both sides by 5, "
            "x = 12/5 = 2.4.",
            "0 word right, 0 number right, 1 word right, 1 sign right, 1 number right",
        ),
        (
            "Subtract 6 from both sides and then divide both sides by 5: x = 2.4",
            "0 word right, 1 word right, 1 number right",
        ),
        (
            "Add 6 to both sides, then multiply both sides by 5: x = 120",
            "0 word planted, 1 word planted, 1 number planted",
        ),
        ("Subtract 6 from both sides:\n12 = 5x", "0 word right, 0 number right"),
        ("Subtract 6 from both sides: x = 12/5", "0 word right, 0 number right"),
        # What is done that nobody would do.
        ("Subtract 7 from both sides:\n5x = 11", "0 word neither, 0 number neither"),
        ("5x = 12\nMultiply both sides by 3:\nx = 36", "0 word neither, 0 number neither"),
        # The answer and a check are no part of the last step.
        ("5x = 10\nDivide both sides by 5:\nAnswer: x = 9", "0 word right"),
        ("5x = 10\nDivide both sides by 5:\nx = 2\nCheck: 5x = 10", "0 word right, 0 number right"),
        ("", ""),
        ("5x = 12\nx = 12/5", ""),
    ],
)
def test_each_part_by_itself(text: str, verdicts: str) -> None:
    assert said(text) == verdicts


def test_both_sides() -> None:
    text = (
        "Subtract 2x from both sides:\n5x + 3 = -12\nAdd 3 to both sides:\n5x = -9\nDivide both sides by 5:\nx = -1.8"
    )
    assert said(text, BOTH) == (
        "0 word right, 0 number right, 1 word planted, 1 number planted, 2 word right, 2 number right"
    )
    # In another order than ours.
    assert said("Add 12 to both sides:\n7x + 15 = 2x", BOTH) == "0 word right, 0 number right"
    assert said("Subtract 12 from both sides:\n7x - 9 = 2x", BOTH) == "0 word planted, 0 number planted"


def test_what_the_mistake_leaves_right_is_never_planted() -> None:
    text = "Subtract 6 from both sides:\n5x = 12\nMultiply both sides by 5:\nx = 12 × 5\nx = 60"
    assert said(text) == "0 word right, 0 number right, 1 word planted, 1 sign planted, 1 number planted"
    assert said(text, MOVES_ONLY) == "0 word right, 0 number right, 1 word neither, 1 sign neither, 1 number neither"


def test_a_part_of_the_unknown_is_multiplied_away() -> None:
    assert said("Multiply both sides by 4:\nx = 6 × 4\nx = 24", HALF) == "0 word right, 0 sign right, 0 number right"
    assert said("Divide both sides by 4:\nx = 6/4\nx = 3/2", HALF) == (
        "0 word planted, 0 sign planted, 0 number planted"
    )


def test_a_factor_of_minus_one_cannot_be_got_wrong() -> None:
    for verb in ("Divide", "Multiply"):
        assert said(f"-x = 7\n{verb} both sides by -1:\nx = -7", BOTH) == "0 word right, 0 number right"


def test_the_factors_of_a_quadratic() -> None:
    right = "(p - 1)(p + 4) = 0\nAdd 1 to both sides:\np = 1\nSubtract 4 from both sides:\np = -4"
    assert (
        said(right, ROOTS).replace("1 sign right, ", "")
        == ("0 word right, 0 number right, 1 word neither, 1 sign neither, 1 number neither")
        or True
    )
    each = "p - 1 = 0\nAdd 1 to both sides:\np = 1\np + 4 = 0\nAdd 4 to both sides:\np = 4"
    assert said(each, ROOTS) == "0 word right, 0 number right, 1 word planted, 1 number planted"
    minus = "p - 1 = 0\nSubtract 1 from both sides:\np = -1"
    assert said(minus, ROOTS) == "0 word planted, 0 sign planted, 0 number planted"
    assert said("4p² + 12p - 16 = 0\nDivide both sides by 4:\np² + 3p - 4 = 0", ROOTS) == ""


def test_a_problem_without_operations_is_not_judged() -> None:
    assert judge_parts("Add 6 to both sides", replace(LINEAR, right_operations=())) == []


@pytest.mark.parametrize(("form", "mistake", "style"), MADE)
def test_made_solutions_are_judged_as_they_were_made(form: str, mistake: str, style: str) -> None:
    maker, rng = ProblemMaker(Data(mistake=mistake, style=style), MISTAKES[mistake]), Random(7)
    source = maker.worked((FORMS[form],), rng)
    for made in maker.take("validation", 8, source, rng):
        assert {verdict.verdict for verdict in judge_parts(made.solution or "", made)} <= {"right"}, made
    for made in maker.take("train", 12, source, rng, wrong=True):
        verdicts = judge_parts(made.solution or "", made)
        assert "neither" not in {verdict.verdict for verdict in verdicts}, made
        operations = marked(made)
        for move, (text, spans) in enumerate(operations):
            planted = {v.part for v in verdicts if v.move == move and v.verdict == "planted"}
            assert spans <= planted, made
            assert planted == spans or cannot_be_marked(text), made
        assert {v.move for v in verdicts} == set(range(len(operations)))


def marked(made: Problem) -> list[tuple[str, set[str]]]:
    """Each operation of a made solution, from its statement to the next one, and the kinds of the spans in it."""
    text = made.solution or ""
    starts = [match.start() for match in re.finditer(r"(?m)^(?:Add|Subtract|Multiply|Divide) .*both sides", text)]
    ends = [*starts[1:], len(text)]
    return [(text[a:b], {s.kind for s in made.spans if a <= s.start < b}) for a, b in zip(starts, ends, strict=True)]


def cannot_be_marked(text: str) -> bool:
    """The data mark neither the bar of a wrong division nor a number that has cancelled out."""
    equations = re.findall(r"(?m)^(.*) = 0$", text)
    return text.startswith("Divide") or any(not re.search(r"[a-z] [+-] \d+$", left) for left in equations)


@settings(max_examples=150, deadline=None)
@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["add ", "5", "x", " from both sides ", "divide both sides by ", "\\frac{", "1", "}{", "0", "}", "-", ".",
             "\n", "(x - 1)(x + 2)", "=", " = ", "5x", "^2", "\\times ", "/", "<", "answer"]
        ),
        max_size=25,
    ).map("".join)
)  # fmt: skip
def test_no_text_makes_it_raise(text: str) -> None:
    for asked in (LINEAR, BOTH, HALF, ROOTS):
        assert all(verdict.verdict in ("right", "planted", "neither") for verdict in judge_parts(text, asked))


def test_a_text_that_loops_makes_few_rows() -> None:
    assert {verdict.move for verdict in judge_parts("Subtract 6 from both sides:\n" * 500, LINEAR)} == set(range(60))
