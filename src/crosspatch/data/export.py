"""Problems in the formats that other programs read: CSV, and Hugging Face `datasets`."""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from crosspatch.data.problem import Problem
from crosspatch.errors import UsageError
from crosspatch.files import partial_of, written_whole

if TYPE_CHECKING:
    from datasets import DatasetDict

COLUMNS = ("id", "domain", "family", "form", "question", "solution", "answer", "reached", "mistake")


def write_csv(path: Path, problems: Sequence[Problem]) -> None:
    """One row a problem, without its steps; line ends inside of a solution are kept, in quotes."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(problem, column) for column in COLUMNS] for problem in problems)
    with written_whole(path) as partial:
        partial.write_text(table.getvalue(), encoding="utf-8", newline="")


def to_datasets(splits: Mapping[str, Sequence[Problem]]) -> DatasetDict:
    """All splits as Hugging Face datasets, with steps and places; splits without a problem are left out.

    Raises UsageError where the package `datasets` is missing.
    """
    try:
        from datasets import Dataset, DatasetDict
    except ImportError:
        raise UsageError(
            "Hugging Face datasets need the package datasets: pip install 'crosspatch[datasets]'"
        ) from None
    return DatasetDict(
        {name: Dataset.from_list([asdict(p) for p in problems]) for name, problems in splits.items() if problems}
    )


def write_datasets(folder: Path, splits: Mapping[str, Sequence[Problem]]) -> None:
    """The same in a folder for `datasets.load_from_disk`; one that is there is replaced."""
    made, partial = to_datasets(splits), partial_of(folder)
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    # Its bars would fill a log with a line for each split.
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        made.save_to_disk(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if shown:
            enable_progress_bars()


def content_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
