"""Where an answer is found, and that none is where there is none."""

from __future__ import annotations

import pytest

from crosspatch.grading.final_answer import find_answer
from crosspatch.grading.grading import Grade, grade
from crosspatch.grading.math_answer import read_gold


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        r"\boxed{}",
        "I don't know",
        "x =",
        "2x + 3 = 5",
        "2 + x = 5",
        "-x = 5",
        "Subtract 5 from both sides",
        "Answer: To solve, subtract 5 from both sides",
        r"Answer: $\boxed{x = 5",
        r"\boxed{9^{9^{9^9}}}",
        "x = 9^9^9^9",
    ],
)
def test_where_no_answer_stands_none_is_invented(text: str) -> None:
    assert grade(text, "x = 5") == Grade("unparsed", None)
    assert grade(text + "\n\nAnswer: x = 5" if "boxed" not in text else r"\boxed{5}", "x = 5").verdict == "correct"


def test_the_number_of_a_step_is_no_answer() -> None:
    assert grade("### Step 2: Compute", "7") == Grade("unparsed", None)
    assert grade("### Step 2: Compute 3 + 4 = 7", "7") == Grade("correct", "3 + 4 = 7")


def test_a_cut_off_box_does_not_hide_the_step_before_it() -> None:
    assert grade("$$\nx = 12\n$$\n**Answer:** $\\boxed{x = 1", "x = 12") == Grade("correct", "x = 12")


def test_words_in_a_box_are_found_though_no_value_can_be_read() -> None:
    gold = read_gold("x = 7")
    assert gold is not None
    nothing, seven = (find_answer(text, gold) for text in (r"\boxed{\text{no solution}}", r"\boxed{7}"))
    assert nothing is not None
    assert (nothing.text, nothing.answer) == (r"\text{no solution}", None)
    assert seven is not None
    assert (seven.text, seven.answer) == ("7", read_gold("7"))


@pytest.mark.parametrize(
    ("text", "gold", "found"),
    [
        ("x = 5. Check: if x = 2, then 7.", "x = 5", "x = 5"),
        ("The equation holds for x = 5", "x = 5", "x = 5"),
        ("x = 2 or x = -5. We reject x = -5.", "x = 2", "x = 2 or x = -5"),
        ("First y = 3. Then x = 1. No, x = 2.", "x = 2 and y = 3", "y = 3, x = 2"),
        ("The answer is 5. Wait, the answer is 7.", "x = 5", "7"),
        ("The other root is x = 3", "x = 2 or x = 3", "x = 3"),
    ],
)
def test_what_is_claimed_last_counts(text: str, gold: str, found: str) -> None:
    assert grade(text, gold).extracted == found


def test_a_number_that_is_only_spoken_of_is_no_answer() -> None:
    assert grade("So the area of a circle with radius 4", "4") == Grade("unparsed", None)
    assert grade("So the area of a circle with radius 4 is 4", "4") == Grade("correct", "4")
