"""Problems in the formats of other programs can be read back."""

from __future__ import annotations

import csv
from dataclasses import asdict

import pytest

from crosspatch.config import Data
from crosspatch.data.export import COLUMNS, write_csv, write_datasets
from crosspatch.data.splits import make_splits
from crosspatch.errors import UsageError

SPLITS = make_splits(Data(train=6, validation=3, related=2, near=2), seed=2)


def test_a_csv_has_each_problem_with_its_line_breaks(tmp_path):
    path = tmp_path / "train.csv"
    write_csv(path, SPLITS.train)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [COLUMNS] * 6
    assert [row["solution"] for row in rows] == [p.solution for p in SPLITS.train]
    assert "\n" in rows[0]["solution"]
    assert b"\r" not in path.read_bytes()


def test_datasets_have_steps_and_places(tmp_path):
    write_datasets(tmp_path / "hf", {"train": SPLITS.train, "near": SPLITS.near, "none": []})
    from datasets import load_from_disk

    back = load_from_disk(tmp_path / "hf")
    assert set(back) == {"train", "near"}
    first = back["train"][0]
    assert first["question"] == SPLITS.train[0].question
    assert [step["planted"] for step in first["steps"]] == [step.planted for step in SPLITS.train[0].steps]
    assert first["spans"] == [asdict(span) for span in SPLITS.train[0].spans]


def test_without_the_package_the_error_names_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'crosspatch\[datasets\]'"):
        write_datasets(tmp_path / "hf", {"train": SPLITS.train})
