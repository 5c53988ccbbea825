"""Checks a file of questions and solutions: answers, steps, LaTeX, and questions that occur more than once.

An answer is compared with the exact solutions of the equation in its question or, without an equation, with the gold
answer. Without either, it is unparsed.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sympy
from tqdm import tqdm

from crosspatch.data.table import Row, read_rows
from crosspatch.grading.equations import Equation, stated_equations
from crosspatch.grading.grading import Kind, grade
from crosspatch.grading.health import unclosed
from crosspatch.grading.spelling import typed
from crosspatch.grading.steps import Steps, check_steps

Answered = Literal["right", "wrong", "unparsed"]

# Counts an example's tokens, given its question and its solution.
CountTokens = Callable[[str, str], int]

_VERDICTS: dict[str, Answered] = {"correct": "right", "incorrect": "wrong", "unparsed": "unparsed"}
_EVERY_NUMBER = re.compile(r"\binfinitely many\b|\b(?:all|every|any) (?:real )?(?:numbers?|values?)\b", re.IGNORECASE)
_END = 300  # without a final answer, "infinitely many" is searched for in this many characters at the end
_MOST_LISTED = 25  # rows named in a remark
# Words that ask for something other than the unknown, or state mathematics in words.
_ASKS_ELSE = re.compile(
    r"\b(?:how many|number of|sum|products?|difference|discriminant|nature|vertex|slope|intercept|axis|derivative|"
    r"integral|limit|area|perimeter|average|coefficient|inequality|log|ln|"
    r"larger|largest|smaller|smallest|greater|greatest|least|lesser|maximum|minimum|positive|negative|nonnegative|"
    r"half|twice|double|triple|thrice|plus|minus|times|divided|multiplied|less|more than|squared|cubed|percent|"
    r"mod|modulo|cubes?|square of|ratio|remainder|percentage|total|"
    r"first step|next step|which step|true or false|rewrite|simplify|expand|inverse|reciprocal|opposite|"
    r"absolute|round|rounded|nearest|decimals?|approximately|estimate)\b|[%|<>≤≥≠≈±∓]|!=|:=|"
    r"\\(?:[lg]eq?|[lg]t|[lg]eqslant|neq?|approx|pm|mp)(?![a-zA-Z])",
    re.IGNORECASE,
)
# "Solve for x 5x = 95"; "for x -3x = 9" may be read in two ways.
_FOR_UNKNOWN = re.compile(
    r"\b(?:for|find|of|is|determine)\s+(?P<x>[^\W\d_])\s+(?=[\d(\\]|(?P<dash>-)|(?P=x)(?!\w))", re.IGNORECASE
)
_PUNCTUATION = re.compile(r"""\*\*|["“”„«»…¿¡‘`_]|[.,;:?](?!\d)|(?<!\d)!|(?<=[^\W\d_])-(?=[^\W\d_]{2})""")


@dataclass(frozen=True)
class RowCheck:
    """The findings for one row.

    `reason` is why the answer is unparsed, otherwise empty. `key` is the same for questions that differ only in
    wording.
    """

    row: Row
    key: Hashable
    answered: Answered
    reason: str
    wrong_gold: bool
    steps: Steps
    unclosed: tuple[str, ...]
    tokens: int | None


def check_row(row: Row, count_tokens: CountTokens | None = None) -> RowCheck:
    """Check one row."""
    equation, text = find_equation(row.question), row.text or ""
    golds = _golds(equation) if equation else [row.gold] if row.gold else []
    kind: Kind | None = "math" if equation else None
    answered, reason = "unparsed", "no equation in the question and no gold answer"
    if row.text is None:
        reason = "no solution and no answer"
    elif golds:
        graded = grade(row.text, golds[0], golds[1:], kind)
        answered, reason = graded.verdict, graded.rule
        if equation and equation.solutions is None and _EVERY_NUMBER.search(graded.extracted or row.text[-_END:]):
            answered = "correct"
    return RowCheck(
        row,
        equation.key if equation else _words(row.question),
        _VERDICTS[answered],
        reason if answered == "unparsed" else "",
        bool(equation and row.gold and grade(row.gold, golds[0], golds[1:], kind).verdict == "incorrect"),
        check_steps(text, equation),
        (*(f"in the question, {reason}" for reason in unclosed(row.question)), *unclosed(text)),
        count_tokens(row.question, text) if count_tokens else None,
    )


def find_equation(question: str) -> Equation | None:
    """Find the equation that a question asks to solve; None if it asks for something else or cannot be read.

    It must be the only equation, and its unknown must be asked for: not a sum of its roots, the positive one, or
    another letter.
    """
    text = re.sub(r"\A\s*(?:\(\w{1,3}\)|\w{1,3}[.)])\s+", "", typed(question))  # "3) 5x = 95"
    text = re.sub(r"([^\W\d_])\s*=\s*\?", r"\1?", text)  # "what is x = ?"
    if named := _FOR_UNKNOWN.search(text):
        if named["dash"]:
            return None
        text = f"{text[: named.end()]}: {text[named.end() :]}"
    equation = next(stated_equations(text), None)
    # x = 3 asks nothing, and words before a sign belong to the equation, as in "five + 3x = 20".
    if not equation or text.count("=") > 1 or equation.finished or re.match(r"\+|-\s", equation.left):
        return None
    words = f"{text[: equation.start]} ; {text[equation.end :]}"
    x = rf"(?<![a-zA-Z]){re.escape(equation.unknown)}(?![a-zA-Z])"
    other_value = rf"\d\s*[-+*/]?\s*{x}|{x}\s*(?:[\^*/]|[-+]\s*(?:\d|\(|{x})|\(\d)"
    letters = set(re.findall(r"(?<![\w'’\\])[^\W\d_](?![\w'’])", re.sub(r"\\[a-zA-Z]+", " ", words)))
    if _ASKS_ELSE.search(words) or re.search(other_value, words) or letters - {equation.unknown, *"aAIQ"}:
        return None
    return equation


def _golds(equation: Equation) -> list[str]:
    """Return the gold answers of an equation: one with all of its solutions and, if none is real, "no solution"."""
    if equation.solutions is None:
        return [r"\mathbb{R}"]
    values = [f"{equation.unknown} = {sympy.latex(value)}" for value in sorted(equation.solutions, key=sympy.latex)]
    no_solution = [] if any(value.is_real for value in equation.solutions) else [r"\emptyset"]
    return [r" \text{ or } ".join(values), *no_solution] if values else no_solution


def _words(question: str) -> tuple[str, ...]:
    """Return a question's words and signs, without case, spacing, emphasis and punctuation."""
    plain = _PUNCTUATION.sub(" ", question.casefold().replace("’", "'"))
    return tuple(re.findall(r"[\d.,:]+|[^\W\d_]+|\S", plain))


@dataclass(frozen=True)
class FileCheck:
    """The findings for one file; rows are numbered from 1."""

    path: Path
    rows: tuple[RowCheck, ...]

    @property
    def repeated(self) -> list[list[int]]:
        """The rows of each question that occurs more than once, in any wording."""
        rows: dict[Hashable, list[int]] = {}
        for check in self.rows:
            rows.setdefault(check.key, []).append(check.row.number)
        return [numbers for numbers in rows.values() if len(numbers) > 1]

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as JSON-compatible values."""
        checks = [(check.row.number, check) for check in self.rows]
        rows = {name: [row for row, check in checks if check.answered == name] for name in _VERDICTS.values()}
        gaps = [{"row": row, "from": gap.before, "to": gap.after} for row, check in checks for gap in check.steps.gaps]
        tokens = [check.tokens for check in self.rows if check.tokens is not None]
        spread: dict[str, Any] = {"smallest": min, "median": statistics.median, "largest": max, "total": sum}
        return {
            "path": str(self.path),
            "rows": len(self.rows),
            "answers": {name: len(numbers) for name, numbers in rows.items()},
            "right_rows": rows["right"],
            "wrong_rows": rows["wrong"],
            "unparsed_rows": [{"row": row, "reason": check.reason} for row, check in checks if check.reason],
            "wrong_golds": [row for row, check in checks if check.wrong_gold],
            "steps": {
                "read": sum(check.steps.read for check in self.rows),
                "unread": sum(check.steps.unread for check in self.rows),
                "not_following": len(gaps),
                "rows": gaps,
            },
            "unclosed_latex": [{"row": row, "reason": reason} for row, check in checks for reason in check.unclosed],
            "repeated_questions": self.repeated,
            "tokens": {name: value(tokens) for name, value in spread.items()} if tokens else None,
        }

    def summary(self) -> dict[str, str]:
        """One row of the printed table."""
        found = self.to_dict()
        tokens = found["tokens"]
        return {
            "file": self.path.name,
            "rows": str(len(self.rows)),
            **{name: str(count) for name, count in found["answers"].items()},
            "steps that don't follow": "{not_following} of {read}".format(**found["steps"]),
            "unclosed LaTeX": str(len({one["row"] for one in found["unclosed_latex"]})),
            "tokens": "{smallest:g} to {largest:g}, median {median:g}".format(**tokens) if tokens else "–",
        }

    def remarks(self) -> list[str]:
        """Return one line per remark; empty for a file without problems."""
        found = self.to_dict()
        fewer = min("right", "wrong", key=lambda name: found["answers"][name])
        remarks = {f"answers are {fewer}": found[f"{fewer}_rows"]}
        for one in found["unparsed_rows"]:
            remarks.setdefault(f"answers are neither right nor wrong ({one['reason']})", []).append(one["row"])
        remarks["gold answers do not solve the equation"] = found["wrong_golds"]
        remarks["solutions have a step that does not follow"] = [one["row"] for one in found["steps"]["rows"]]
        remarks["rows have LaTeX that does not close"] = [one["row"] for one in found["unclosed_latex"]]
        lines = [
            f"{len({*rows})} of {len(self.rows)} {what}: {_listed(rows)}" for what, rows in remarks.items() if rows
        ]
        lines += [f"one question occurs in several rows: {_listed(rows)}" for rows in self.repeated]
        return [f"{self.path.name}: {line}" for line in lines]


@dataclass(frozen=True)
class DatasetCheck:
    """The findings for a file and its validation files; the file itself comes first."""

    files: tuple[FileCheck, ...]

    @property
    def shared(self) -> list[dict[str, Any]]:
        """Each row whose question another file has, with that file's first such row, preferably a verbatim match."""
        first, *others = self.files
        found = []
        for other in others:
            rows = {key: check.row.number for check in reversed(other.rows) for key in (check.key, check.row.question)}
            for check in first.rows:
                if row := rows.get(check.row.question) or rows.get(check.key):
                    exactly = check.row.question in rows
                    found.append(
                        {"row": check.row.number, "path": str(other.path), "other_row": row, "exactly": exactly}
                    )
        return found

    @property
    def shared_questions(self) -> int:
        """The number of distinct questions of the file that also occur in another file, in any wording."""
        return len({self.files[0].rows[one["row"] - 1].key for one in self.shared})

    @property
    def shared_exactly(self) -> int:
        """The number of distinct questions that also occur in another file word for word."""
        return len({self.files[0].rows[one["row"] - 1].row.question for one in self.shared if one["exactly"]})

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as JSON-compatible values."""
        return {
            "files": [file.to_dict() for file in self.files],
            "shared_questions": self.shared_questions,
            "shared_exactly": self.shared_exactly,
            "shared": self.shared,
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
        others = ", ".join(dict.fromkeys(Path(one["path"]).name for one in self.shared))
        return [
            f"{self.files[0].path.name}: {self.shared_questions} questions also occur in {others}, "
            f"{self.shared_exactly} of them word for word: {_listed(one['row'] for one in self.shared)}"
        ]


def check_files(path: Path, validation: Sequence[Path] = (), count_tokens: CountTokens | None = None) -> DatasetCheck:
    """Check a file, and validation files that must not share its questions; raises UsageError if one is unreadable."""
    # Read all files first, so that an error in the last file is reported before any check starts.
    tables = [(each, read_rows(each)) for each in (path, *validation)]
    files = []
    for each, rows in tables:
        # A thousand rows take some seconds: a bar on a terminal, nothing in a log.
        bar = tqdm(rows, desc=f"Checking {each.name}", leave=False, disable=None)
        files.append(FileCheck(each, tuple(check_row(row, count_tokens) for row in bar)))
    return DatasetCheck(tuple(files))


def _listed(numbers: Iterable[int]) -> str:
    rows = sorted(set(numbers))
    more = f" and {len(rows) - _MOST_LISTED} more" if len(rows) > _MOST_LISTED else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:_MOST_LISTED]))}{more}"
