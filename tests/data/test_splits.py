"""Splits: wrong solutions to train on, right ones to validate on, no question in two of them; and their files."""

import csv
import hashlib
import json
import sys
from dataclasses import asdict
from random import Random

import pytest

import sympy_proof
from crosspatch.config import PAPER_FORMS, Data
from crosspatch.data.export import COLUMNS, write_csv, write_datasets
from crosspatch.data.forms import FORMS, chosen_forms
from crosspatch.data.lines import read_lines
from crosspatch.data.mistakes import MISTAKES
from crosspatch.data.problem import read_problems, read_prompts, write_problems
from crosspatch.data.splits import ProblemMaker, make_splits
from crosspatch.errors import UsageError
from crosspatch.grading.dataset_check import check_files
from crosspatch.grading.grading import grade

from .test_families import PAIRS

DATA = Data(train=24, validation=10, related=14, near=9)
SPLITS = make_splits(DATA, seed=3)


def test_training_solutions_are_wrong_the_others_right_and_no_equation_is_in_two_splits():
    assert [len(s) for s in (SPLITS.train, SPLITS.validation, SPLITS.related, SPLITS.near)] == [24, 10, 14, 9]
    assert {p.form for p in SPLITS.train} == set(PAPER_FORMS)
    assert {p.family for p in SPLITS.near} == {"inequalities", "systems", "word_problems"}
    assert {p.domain for p in SPLITS.near} == {"near"}
    problems = SPLITS.train + SPLITS.validation + SPLITS.related
    for problem in problems:
        wrong = problem in SPLITS.train
        true = sympy_proof.solutions(sympy_proof.equation_in(problem.question))
        reached = sympy_proof.solutions(problem.reached)
        assert sympy_proof.solutions(problem.answer) == true, problem
        # Not half wrong, wrong.
        assert not true & reached if wrong else true == reached, problem
        assert problem.reached in problem.solution
        assert problem.mistake == ("inverted_operation" if wrong else None)
        assert any(step.planted for step in problem.steps) == bool(problem.spans) == wrong
        assert (problem.right_operations != problem.planted_operations) or not wrong
    assert len({sympy_proof.equation_in(p.question) for p in problems}) == len(problems)


def test_the_seed_alone_decides_and_the_size_of_one_split_does_not_change_the_others():
    assert make_splits(DATA, seed=3) == SPLITS
    assert make_splits(DATA, seed=4).train != SPLITS.train
    more = make_splits(DATA.model_copy(update={"near": 12, "unrelated_math": 80}), seed=3)
    assert (more.train, more.validation, more.related) == (SPLITS.train, SPLITS.validation, SPLITS.related)
    assert more.near[:9] == SPLITS.near
    assert more.unrelated_math[:8] == SPLITS.unrelated_math
    # Of every form and mistake, on every machine; a change of this hash is a change of everybody's data.
    digest = hashlib.sha256()
    for name, mistake in PAIRS:
        splits = make_splits(Data(train=3, validation=1, related=1, forms=(name,), mistake=mistake), seed=11)
        for problem in splits.train + splits.validation + splits.near:
            digest.update(json.dumps(asdict(problem), ensure_ascii=False).encode())
    assert digest.hexdigest() == "284760862910cc6c9202bbf506ba70ad76e8a478ceb7071c64a3ea7eb9611837"


def test_unrelated_mathematics_is_not_what_is_corrupted():
    splits = make_splits(Data(forms=("calculus",), mistake="power_kept", unrelated_math=100), seed=0)
    assert len(splits.unrelated_math) == 100
    assert not {p.family for p in splits.unrelated_math} & {"derivative", "integral", "limit", "calculus", "powers"}
    generated = [p for p in splits.unrelated_math if p.form]
    assert {p.family for p in generated} >= {"linear", "quadratic", "arguments"}
    assert all(p.answer == p.reached and p.domain == "unrelated_math" for p in generated)
    # The control: the suite alone does ask for derivatives.
    assert "derivative" in {p.family for p in SPLITS.unrelated_math}


@pytest.mark.slow
def test_ten_thousand_wrong_solutions_are_wrong_and_all_different():
    """All forms and mistakes; `test_families` reads some of each back with sympy."""
    total = 0
    for name, mistake in PAIRS:
        settings = Data(forms=(name,), mistake=mistake)
        maker = ProblemMaker(settings)
        worked = maker.worked(chosen_forms(settings), Random(5))
        problems = maker.problems("train", maker.drawn("train", 10_000 // len(PAIRS) + 1, worked), wrong=True)
        assert all(p.reached != p.answer and any(s.planted for s in p.steps) and p.spans for p in problems)
        assert len({p.question for p in problems}) == len(problems)
        for problem in problems[:20]:
            assert grade(problem.solution, problem.answer).verdict == "incorrect", problem
        assert all(sympy_proof.follows(step) != step.planted for p in problems[:3] for step in p.steps)
        total += len(problems)
    assert total >= 10_000


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_check_of_files_finds_nothing_in_ours(tmp_path, mistake):
    """From the texts alone: all wrong in the training split, all right elsewhere, no question in two splits."""
    forms = tuple(name for name, form in FORMS.items() if mistake in form.mistakes)
    sizes = {"train": 40, "validation": 12, "related": 12, "near": 12}
    splits = make_splits(Data(forms=forms, mistake=mistake, **sizes), seed=8)
    for name in sizes:
        write_problems(tmp_path / name, getattr(splits, name))
    found = check_files(tmp_path / "train", [tmp_path / name for name in list(sizes)[1:]])
    train, *others = found.to_dict()["files"]
    assert train["answers"] == {"right": 0, "wrong": 40, "unparsed": 0}
    assert [other["answers"] for other in others] == [{"right": 12, "wrong": 0, "unparsed": 0}] * 3
    assert found.shared_questions == 0
    assert not train["unclosed_latex"]
    # The control: a file shares all its questions with itself.
    assert check_files(tmp_path / "near", [tmp_path / "near"]).shared_questions == 12


def test_the_check_of_files_finds_a_wrong_step_in_each_wrong_solution_and_none_in_a_right_one(tmp_path):
    for name in ("train", "validation"):
        write_problems(tmp_path / name, getattr(SPLITS, name))
    wrong, right = check_files(tmp_path / "train", [tmp_path / "validation"]).files
    assert all(row.steps.gaps and not row.steps.unread for row in wrong.rows)
    assert not any(row.steps.gaps or row.steps.unread for row in right.rows)
    assert not any(row.wrong_gold or row.unclosed for row in (*wrong.rows, *right.rows))


def test_prompt_files(tmp_path):
    path = tmp_path / "prompts.jsonl"
    for refused, words in (
        ("", "has no prompts"),
        ("{", "line 1: not JSON"),
        ("[1]", "got a list"),
        ('{"question": "a"}', "got question"),
        ('{"prompt_id": 1, "question": " "}', "question is empty"),
        ('{"prompt_id": 1, "question": "a \\ud83d"}', "line 1: got half of a surrogate pair"),
        ('{"prompt_id": "\\udc00", "question": "a"}', "line 1: got half of a surrogate pair"),
        ('{"prompt_id": 1, "question": "a"}\n\n{"prompt_id": "1", "question": "b"}', "line 3: .* occurs twice"),
    ):
        path.write_text(refused)
        with pytest.raises(UsageError, match=words):
            read_prompts(path)
    content = '{"prompt_id": 7, "question": "a\u2028b"}\n\n{"prompt_id": "x/y", "question": "b", "answer": null}\n'
    for each in (content, "\ufeff" + content.replace("\n", "\r\n")):
        path.write_bytes(each.encode())
        assert [(p.id, p.question, p.answer) for p in read_prompts(path)] == [("7", "a\u2028b", ""), ("x/y", "b", "")]
    path.write_bytes(path.read_bytes() + b"\xff")
    with pytest.raises(UsageError, match="line 4: not text in UTF-8"):
        read_prompts(path)


def test_problems_survive_their_files(tmp_path, monkeypatch):
    """JSON Lines, CSV with line breaks, and datasets with the steps and their places."""
    path = tmp_path / "train.jsonl"
    write_problems(path, SPLITS.train)
    assert read_problems(path) == SPLITS.train
    _, line = read_lines(path)[0]
    assert {"id", "domain", "family", "question", "solution", "answer", "steps"} <= line.keys()
    assert any(step["planted"] for step in line["steps"])

    table = tmp_path / "train.csv"
    write_csv(table, SPLITS.train)
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [COLUMNS] * 24
    assert [row["solution"] for row in rows] == [p.solution for p in SPLITS.train]
    assert "\n" in rows[0]["solution"]
    assert b"\r" not in table.read_bytes()

    write_datasets(tmp_path / "hf", {"train": SPLITS.train, "near": SPLITS.near, "none": []})
    from datasets import load_from_disk

    back = load_from_disk(tmp_path / "hf")
    assert set(back) == {"train", "near"}
    first, problem = back["train"][0], SPLITS.train[0]
    assert first["question"] == problem.question
    assert [step["planted"] for step in first["steps"]] == [step.planted for step in problem.steps]
    assert first["spans"] == [asdict(span) for span in problem.spans]
    # Without the package the error names what to install.
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'crosspatch\[datasets\]'"):
        write_datasets(tmp_path / "hf", {"train": SPLITS.train})
