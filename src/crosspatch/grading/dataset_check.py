"""Checks a file of questions and solutions row by row, and finds repeated questions and questions in two files."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crosspatch.data.table import read_rows
from crosspatch.grading.row_check import Answered, CountTokens, RowCheck, check_row

_LONGEST_QUOTE = 200  # characters of a line that is quoted in a report
_MOST_LISTED = 25  # rows named in a remark


@dataclass(frozen=True)
class FileCheck:
    """The findings for one file; rows are numbered from 1."""

    path: Path
    rows: tuple[RowCheck, ...]

    def rows_that(self, answered: Answered) -> list[int]:
        """Return the numbers of the rows whose answer is right, wrong or unparsed."""
        return [check.row.number for check in self.rows if check.answered == answered]

    @property
    def gaps(self) -> int:
        """The number of steps that do not follow from the previous step."""
        return sum(len(check.steps.gaps) for check in self.rows)

    @property
    def repeated(self) -> list[list[int]]:
        """The rows of each question that occurs more than once, in any wording."""
        rows: dict[Hashable, list[int]] = {}
        for check in self.rows:
            rows.setdefault(check.key, []).append(check.row.number)
        return [numbers for numbers in rows.values() if len(numbers) > 1]

    @property
    def tokens(self) -> dict[str, float] | None:
        """The number of tokens of an example: minimum, median and maximum, and the sum."""
        counts = [check.tokens for check in self.rows if check.tokens is not None]
        if not counts:
            return None
        return {
            "smallest": min(counts),
            "median": statistics.median(counts),
            "largest": max(counts),
            "total": sum(counts),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as JSON-compatible values."""
        right, wrong, unparsed = (self.rows_that(answered) for answered in ("right", "wrong", "unparsed"))
        return {
            "path": str(self.path),
            "rows": len(self.rows),
            "answers": {"right": len(right), "wrong": len(wrong), "unparsed": len(unparsed)},
            "right_rows": right,
            "wrong_rows": wrong,
            "unparsed_rows": [
                {"row": check.row.number, "reason": check.reason} for check in self.rows if check.answered == "unparsed"
            ],
            "wrong_golds": [check.row.number for check in self.rows if check.wrong_gold],
            "steps": {
                "read": sum(check.steps.read for check in self.rows),
                "unread": sum(check.steps.unread for check in self.rows),
                "not_following": self.gaps,
                "rows": [
                    {"row": check.row.number, "from": _quoted(gap.before), "to": _quoted(gap.after)}
                    for check in self.rows
                    for gap in check.steps.gaps
                ],
            },
            "unclosed_latex": [
                {"row": check.row.number, "reason": reason} for check in self.rows for reason in check.unclosed
            ],
            "repeated_questions": self.repeated,
            "tokens": self.tokens,
        }

    def summary(self) -> dict[str, str]:
        """One row of the printed table."""
        tokens = self.tokens
        return {
            "file": self.path.name,
            "rows": str(len(self.rows)),
            "right": str(len(self.rows_that("right"))),
            "wrong": str(len(self.rows_that("wrong"))),
            "unparsed": str(len(self.rows_that("unparsed"))),
            "steps that don't follow": f"{self.gaps} of {sum(check.steps.read for check in self.rows)}",
            "unclosed LaTeX": str(sum(bool(check.unclosed) for check in self.rows)),
            "tokens": f"{tokens['smallest']:g} to {tokens['largest']:g}, median {tokens['median']:g}"
            if tokens
            else "–",
        }

    def remarks(self) -> list[str]:
        """Return one line per remark; empty for a file without problems."""
        name, right, wrong = self.path.name, self.rows_that("right"), self.rows_that("wrong")
        found = {}
        if right and wrong:
            found["answers are right" if len(right) <= len(wrong) else "answers are wrong"] = min(right, wrong, key=len)
        for check in self.rows:
            if check.reason:
                found.setdefault(f"answers are neither right nor wrong ({check.reason})", []).append(check.row.number)
        found["gold answers do not solve the equation"] = [c.row.number for c in self.rows if c.wrong_gold]
        found["solutions have a step that does not follow"] = [c.row.number for c in self.rows if c.steps.gaps]
        found["rows have LaTeX that does not close"] = [c.row.number for c in self.rows if c.unclosed]
        lines = [
            f"{name}: {len(rows)} of {len(self.rows)} {what}: {_listed(rows)}" for what, rows in found.items() if rows
        ]
        return lines + [f"{name}: one question occurs in several rows: {_listed(rows)}" for rows in self.repeated]


@dataclass(frozen=True)
class Shared:
    """A row whose question also occurs in another file, word for word (`exactly`) or in another wording."""

    row: int
    path: Path
    other_row: int
    exactly: bool


@dataclass(frozen=True)
class DatasetCheck:
    """The findings for a file and its validation files; the file itself comes first."""

    files: tuple[FileCheck, ...]

    @property
    def shared(self) -> list[Shared]:
        """Each row whose question another file has, with that file's first such row, preferably a verbatim match."""
        first, *others = self.files
        found = []
        for other in others:
            exact: dict[str, int] = {}
            alike: dict[Hashable, int] = {}
            for check in other.rows:
                exact.setdefault(check.row.question, check.row.number)
                alike.setdefault(check.key, check.row.number)
            for check in first.rows:
                exactly = check.row.question in exact
                if exactly or check.key in alike:
                    other_row = exact[check.row.question] if exactly else alike[check.key]
                    found.append(Shared(check.row.number, other.path, other_row, exactly))
        return found

    @property
    def shared_questions(self) -> int:
        """The number of distinct questions of the file that also occur in another file, in any wording."""
        keys = {check.row.number: check.key for check in self.files[0].rows}
        return len({keys[shared.row] for shared in self.shared})

    @property
    def shared_exactly(self) -> int:
        """The number of distinct questions that also occur in another file word for word."""
        rows = {check.row.number: check.row.question for check in self.files[0].rows}
        return len({rows[shared.row] for shared in self.shared if shared.exactly})

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as JSON-compatible values."""
        return {
            "files": [file.to_dict() for file in self.files],
            "shared_questions": self.shared_questions,
            "shared_exactly": self.shared_exactly,
            "shared": [
                {"row": one.row, "path": str(one.path), "other_row": one.other_row, "exactly": one.exactly}
                for one in self.shared
            ],
        }

    def summary_rows(self) -> list[dict[str, str]]:
        """Return the printed table, one row per file."""
        return [file.summary() for file in self.files]

    def remarks(self) -> list[str]:
        """Return one line per remark, on each file and on shared questions."""
        return [line for file in self.files for line in file.remarks()] + self.shared_remarks()

    def shared_remarks(self) -> list[str]:
        """Return a line about the questions that the file shares with others, if there are any."""
        if not self.shared:
            return []
        rows = sorted({one.row for one in self.shared})
        others = ", ".join(dict.fromkeys(one.path.name for one in self.shared))
        return [
            f"{self.files[0].path.name}: {self.shared_questions} questions also occur in {others}, "
            f"{self.shared_exactly} of them word for word: {_listed(rows)}"
        ]


def check_files(path: Path, validation: Sequence[Path] = (), count_tokens: CountTokens | None = None) -> DatasetCheck:
    """Check a file, and validation files that must not share its questions; raises UsageError if one is unreadable."""
    paths = [path, *validation]
    # Read all files first, so that an error in the last file is reported before any check starts.
    tables = [read_rows(each) for each in paths]
    return DatasetCheck(
        tuple(
            FileCheck(
                each,
                tuple(
                    check_row(row, count_tokens)
                    # A thousand rows take a few seconds: a bar on a terminal, nothing in a log.
                    for row in tqdm(rows, desc=f"Checking {each.name}", leave=False, disable=None)
                ),
            )
            for each, rows in zip(paths, tables, strict=True)
        )
    )


def _listed(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - _MOST_LISTED} more" if len(rows) > _MOST_LISTED else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:_MOST_LISTED]))}{more}"


def _quoted(line: str) -> str:
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}…"
