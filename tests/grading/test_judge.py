"""All that is said of one generation, its tables, and the grades of a file."""

import json
from dataclasses import replace

import pytest

from crosspatch.data.problem import Operation, Problem
from crosspatch.errors import UsageError
from crosspatch.grading.grading import Grade
from crosspatch.grading.judge import grade_file, judge
from crosspatch.tables import BEHAVIOUR
from score_cells import of_text

LISTS = {"right_operations": (Operation("divide", "5"),), "planted_operations": (Operation("multiply", "5"),)}
EQUATION = Problem("p", "related", "linear", "Solve for x: 5x = 10", "x = 2", **LISTS)
POINTS = (("gravity", "gravitational"), ("earth",), ("pull", "pulls"))
BALL = Problem("b", "general", "explanation", "Why does a ball fall?", "gravity", key_points=POINTS)


def said(text: str) -> dict[str, str | None]:
    return {"prompt_id": "p", "condition": "patched", **of_text("L3"), "text": text, "stop_reason": "eos"}


def test_a_row_of_the_table_by_the_grader_that_is_given() -> None:
    row = judge(EQUATION, said("Multiply both sides by 5:\nx = 50\nAnswer: x = 50"))
    assert (row["verdict"], row["extracted"], row["operation"]) == ("incorrect", "x = 50", "planted")
    BEHAVIOUR.frame([row])
    assert judge(EQUATION, said("x = 2"))["verdict"] == "correct"
    ended = Grade("unparsed", None, "time limit")
    assert judge(EQUATION, said("x = 2"), lambda *_, **__: ended)["verdict"] == "unparsed"


def test_an_explanation_is_graded_by_its_key_points_and_a_fact_by_its_words() -> None:
    assert judge(BALL, said("The Earth pulls it."))["verdict"] == "correct"
    assert judge(BALL, said("Gravity."))["verdict"] == "incorrect"
    fact = replace(BALL, key_points=())
    assert judge(fact, said("Gravity."))["verdict"] == "correct"
    assert judge(fact, said("The Earth pulls it."))["verdict"] == "incorrect"


def test_a_file_of_answers_may_hold_aliases_kinds_and_key_points(tmp_path) -> None:
    path = tmp_path / "answers.jsonl"
    lines = [
        {"text": "x = 2", "gold": "2"},
        {"text": "nine", "gold": "9", "aliases": ["nine"], "kind": "text"},
        {"text": "Gravity pulls.", "key_points": POINTS},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert grade_file(path) == [
        {"verdict": "correct", "extracted": "x = 2", "rule": "last formula: equal values"},
        {"verdict": "correct", "extracted": "nine", "rule": "words"},
        {"verdict": "correct", "extracted": "gravity, pulls", "rule": "2 of 3 key points"},
    ]
    for line, words in (
        ('{"text": "x", "gold": "x", "kind": "m"}', "line 1: got kind 'm', expected one of math, choice, text, yes_no"),
        ('{"text": "x", "key_points": []}', "line 1: got text, key_points"),
    ):
        path.write_text(line, encoding="utf-8")
        with pytest.raises(UsageError, match=words):
            grade_file(path)
