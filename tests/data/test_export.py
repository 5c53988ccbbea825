"""Problems in other programs' formats: what goes out comes back."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import asdict

import pytest

from crosspatch.config import Data
from crosspatch.data.export import COLUMNS, content_hash, to_datasets, write_csv
from crosspatch.data.splits import make_splits
from crosspatch.errors import UsageError

SPLITS = make_splits(Data(train=6, validation=3, related=2, near=2), seed=2)


def test_a_csv_holds_each_problem_with_its_line_ends(tmp_path):
    path = tmp_path / "train.csv"
    write_csv(path, SPLITS.train)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [COLUMNS] * 6
    assert [row["solution"] for row in rows] == [p.solution for p in SPLITS.train]
    assert "\n" in rows[0]["solution"]
    assert b"\r" not in path.read_bytes()


def test_datasets_hold_steps_and_places(tmp_path):
    made = to_datasets({"train": SPLITS.train, "near": SPLITS.near, "none": []})
    made.save_to_disk(tmp_path / "hf")
    from datasets import load_from_disk

    back = load_from_disk(tmp_path / "hf")
    assert set(back) == {"train", "near"}
    first = back["train"][0]
    assert first["question"] == SPLITS.train[0].question
    assert [step["planted"] for step in first["steps"]] == [step.planted for step in SPLITS.train[0].steps]
    assert first["spans"] == [asdict(span) for span in SPLITS.train[0].spans]


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'crosspatch\[datasets\]'"):
        to_datasets({"train": SPLITS.train})


def test_the_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert content_hash(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()
