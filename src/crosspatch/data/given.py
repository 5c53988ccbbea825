"""Problems out of the user's own files, to train and validate on. Knows nothing of whether they are right."""

from __future__ import annotations

from pathlib import Path

from crosspatch.data.problem import Problem
from crosspatch.data.table import read_rows
from crosspatch.errors import UsageError


def given_problems(path: Path, split: str) -> list[Problem]:
    """The questions and solutions of a CSV or JSONL file; raises UsageError, naming file and row, where one lacks."""
    problems = []
    for row in read_rows(path):
        if row.solution is None:
            raise UsageError(f"{path}, row {row.number}: has no solution to train on")
        problems.append(
            Problem(
                id=f"{split}-{row.number - 1:03d}",
                domain=split,
                family="given",
                question=row.question,
                answer=row.answer or "",
                solution=row.solution,
            )
        )
    return problems
