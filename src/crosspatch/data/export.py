"""Exports problems as CSV and as Hugging Face `datasets`."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from crosspatch.data.problem import Problem
from crosspatch.errors import UsageError
from crosspatch.files import folder_written_whole, written_whole

COLUMNS = ("id", "domain", "family", "form", "question", "solution", "answer", "reached", "mistake")


def write_csv(path: Path, problems: Sequence[Problem]) -> None:
    """Write one row for each problem, without its steps; a solution with line breaks is quoted."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(problem, column) for column in COLUMNS] for problem in problems)
    with written_whole(path) as partial:
        partial.write_text(table.getvalue(), encoding="utf-8", newline="")


def write_datasets(folder: Path, splits: Mapping[str, Sequence[Problem]]) -> None:
    """Write all splits, including steps and spans, for `datasets.load_from_disk`; an existing folder is replaced.

    Raises UsageError if the package `datasets` is missing.
    """
    try:
        import datasets
    except ImportError:
        raise UsageError(
            "Hugging Face datasets need the package datasets: pip install 'crosspatch[datasets]'"
        ) from None
    made = {
        name: datasets.Dataset.from_list([asdict(p) for p in problems]) for name, problems in splits.items() if problems
    }
    # The library's progress bars would add a line for each split to a log.
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with folder_written_whole(folder) as partial:
            datasets.DatasetDict(made).save_to_disk(partial)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        if shown:
            datasets.enable_progress_bars()
