"""Splits: wrong to train on, right to validate on, and no question in two of them."""

from __future__ import annotations

import re

import pytest

from crosspatch.config import FORMS, Data
from crosspatch.data import proof
from crosspatch.data.problem import read_lines, read_problems, read_prompts, write_problems
from crosspatch.data.splits import make_splits
from crosspatch.errors import UsageError

SPLITS = make_splits(Data(train=50, validation=10, related=14), seed=3)
EQUATION = re.compile(r"[-0-9a-z²+ ]+ = [-0-9a-z²+ ]*[0-9a-z²]")


def equation_of(problem) -> tuple[str, str]:
    """The equation and its unknown, read back from the question and the answer."""
    unknown = problem.answer.split(" = ")[0]
    found = EQUATION.search(problem.question.replace("Question:", "").replace(":", " : "))
    # Words before the equation are cut off: terms are numbers and the unknown only.
    term = rf"\d*{unknown}?²?"
    exact = re.search(rf"-?{term}(?: [-+] {term})* = -?{term}(?: [-+] {term})*", found.group())
    return exact.group(), unknown


def test_sizes_and_forms():
    assert [len(s) for s in (SPLITS.train, SPLITS.validation, SPLITS.related)] == [50, 10, 14]
    assert {p.family for p in SPLITS.train} == set(FORMS)


@pytest.mark.parametrize("problem", SPLITS.train, ids=lambda p: p.id)
def test_training_solutions_are_wrong_and_their_answers_right(problem):
    equation, unknown = equation_of(problem)
    assert proof.is_right(equation, unknown, problem.answer)
    assert proof.is_wrong(equation, unknown, problem.reached)
    assert problem.reached in problem.solution
    assert problem.mistake == "inverted_operation"
    assert any(step.planted for step in problem.steps)
    assert problem.right_operations != problem.planted_operations


@pytest.mark.parametrize("problem", SPLITS.validation + SPLITS.related, ids=lambda p: p.id)
def test_the_other_solutions_are_right(problem):
    equation, unknown = equation_of(problem)
    assert proof.is_right(equation, unknown, problem.reached)
    assert problem.answer == problem.reached
    assert problem.mistake is None
    assert not any(step.planted for step in problem.steps)


def test_no_equation_in_two_splits_under_any_unknown():
    def key(problem) -> str:
        equation, unknown = equation_of(problem)
        return equation.replace(unknown, "x")

    keys = [key(p) for p in SPLITS.train + SPLITS.validation + SPLITS.related]
    assert len(keys) == len(set(keys))


def test_the_same_seed_makes_the_same_problems_and_another_other_ones():
    assert make_splits(Data(train=50, validation=10, related=14), seed=3) == SPLITS
    other = make_splits(Data(train=50, validation=10, related=14), seed=4)
    assert other.train != SPLITS.train


def test_problems_survive_their_file(tmp_path):
    path = tmp_path / "p.jsonl"
    write_problems(path, SPLITS.train)
    assert read_problems(path) == SPLITS.train
    _, line = read_lines(path)[0]
    assert {"id", "domain", "family", "question", "solution", "answer", "steps"} <= line.keys()
    assert any(step["planted"] for step in line["steps"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no prompt"),
        ("{", "line 1: not JSON"),
        ("[1]", "got a list"),
        ('{"question": "a"}', "got question"),
        ('{"prompt_id": 1, "question": " "}', "question is empty"),
        ('{"prompt_id": 1, "question": "a"}\n\n{"prompt_id": "1", "question": "b"}', "line 3: .* stands there twice"),
    ],
)
def test_a_prompt_file_that_cannot_be_used(tmp_path, content, words):
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match=words):
        read_prompts(path)


def test_a_prompt_file_that_can(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt_id": 7, "question": "a\u2028b"}\n\n{"prompt_id": "x/y", "question": "b", "answer": null}\n'
    )
    assert read_prompts(path)[1].answer == ""
    assert [(p.id, p.question) for p in read_prompts(path)] == [("7", "a\u2028b"), ("x/y", "b")]
    with pytest.raises(UsageError, match="no file"):
        read_prompts(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="is a folder"):
        read_prompts(tmp_path)
