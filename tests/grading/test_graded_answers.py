"""Pairs of answers and golds that people have graded: the grader agrees with every one.

`graded_answers.jsonl` holds them, a line each, as `crosspatch grade` reads them, with the verdict, why it is so, and
whether a model wrote the answer. A verdict there is what a person would say who knows only text and gold; texts of
which two people would say different things (cut off after half a remark) are left out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from crosspatch.data.lines import read_lines
from crosspatch.grading.grading import Grade, grade, grade_explanation
from crosspatch.grading.judge import grade_file

TABLE = Path(__file__).with_name("graded_answers.jsonl")
PAIRS = [pair for _, pair in read_lines(TABLE)]


def graded(pair: dict[str, Any]) -> Grade:
    if "key_points" in pair:
        return grade_explanation(pair["text"], pair["key_points"])
    return grade(pair["text"], pair["gold"], pair.get("aliases", ()), pair.get("kind"))


@pytest.mark.parametrize("pair", PAIRS, ids=[f"line {number}" for number in range(1, len(PAIRS) + 1)])
def test_the_grader_agrees(pair: dict[str, Any]) -> None:
    assert graded(pair).verdict == pair["verdict"], pair["why"]


def test_the_table_is_large_and_holds_every_verdict() -> None:
    assert len(PAIRS) >= 220
    assert sum(pair["source"] == "model" for pair in PAIRS) >= 80
    assert min(Counter(pair["verdict"] for pair in PAIRS).values()) >= 20


def test_a_right_answer_is_wrong_for_another_gold() -> None:
    for pair in PAIRS:
        if pair["verdict"] != "correct":
            continue
        if "key_points" in pair:
            other = {**pair, "key_points": [["xylophone"], ["zebra"]]}
        elif pair.get("kind") == "text":
            other = {**pair, "gold": "xylophone", "aliases": []}
        else:
            other = {**pair, "gold": "987654321", "aliases": []}
        assert graded(other).verdict != "correct", pair["text"]


def test_the_command_grades_the_table_alike() -> None:
    assert [found["verdict"] for found in grade_file(TABLE)] == [pair["verdict"] for pair in PAIRS]
