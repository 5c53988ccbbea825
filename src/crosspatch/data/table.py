r"""Reads users' files of questions and solutions: CSV or JSON lines, with the usual column names.

Files may have no header, a byte order mark, CRLF, stray quotes, and rows with too few cells.
Escaped text (`\n` and `\\frac` as characters, as in the published files) is unescaped (see `escaped_text`).
Errors name the line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from crosspatch.data.escaped_text import is_escaped, unescaped
from crosspatch.data.lines import json_object, numbered_lines
from crosspatch.errors import UsageError

QUESTION = ("question", "prompt", "problem", "instruction", "input")
SOLUTION = ("solution", "response", "completion", "output")
ANSWER = ("answer", "gold", "final_answer", "target")

_EXPECTED = (
    f"expected a question ({', '.join(QUESTION)}) and a solution ({', '.join(SOLUTION)}) "
    f"or an answer ({', '.join(ANSWER)})"
)
# Appended as a last line; no file contains it, since NUL bytes are refused. If it is not read, a quote is open.
_END = "\0"


@dataclass(frozen=True)
class Row:
    """One question of a file; `number` is the row's number from 1, `line` the number of the row's first line.

    `solution` and `answer` are None if the file has none.
    """

    number: int
    line: int
    question: str
    solution: str | None
    answer: str | None

    @property
    def text(self) -> str | None:
        """The text to check: the solution or, if there is no solution, the answer."""
        return self.answer if self.solution is None else self.solution

    @property
    def gold(self) -> str | None:
        """The answer that the solution is checked against, if the file has both."""
        return None if self.solution is None else self.answer


def read_rows(path: Path) -> list[Row]:
    """Read all rows of a CSV or JSONL file; raises UsageError, with the file and the line, if malformed."""
    lines = numbered_lines(path)
    first = next(lines, None)
    if first is None:
        raise UsageError(f"{path} is empty, expected questions with solutions")
    by_suffix = {".csv": _csv_objects, ".jsonl": _json_objects, ".ndjson": _json_objects, ".json": _json_objects}
    by_content = _json_objects if first[1].lstrip().startswith(("{", "[")) else _csv_objects
    objects = by_suffix.get(path.suffix.lower(), by_content)(path, chain([first], lines))
    rows = [_row(path, number, line, values) for number, (line, values) in enumerate(objects, start=1)]
    if not rows:
        raise UsageError(f"{path} has no rows, expected questions with solutions")
    return _all_unescaped(rows)


def _csv_objects(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows as objects, each with the number of its first line."""
    names: list[str] = []
    number = 0
    for line, cells in _csv_records(path, lines):
        if not names:
            names = [_name(cell) for cell in cells]
            if _is_complete(names):
                continue
            # Without a header, two columns are a question and an answer.
            known = {*QUESTION, *SOLUTION, *ANSWER}.intersection(names)
            if known or len(cells) != 2 or not (len(cells[0].split()) > 2 or re.search(r"[\d=?]", cells[0])):
                raise UsageError(f"{path}, line {line}: found the columns {_one_line(cells)}; {_EXPECTED}")
            names = ["question", "answer"]
        number += 1
        if any(cell.strip() for cell in cells[len(names) :]):
            wrong = f"{len(cells)} cells, expected {len(names)}; is a comma not in quotes?"
            raise UsageError(f"{path}, row {number} (line {line}): {wrong}")
        # If two columns have the same name, the first one is used.
        padded = [*cells, *[""] * (len(names) - len(cells))]
        yield line, dict(reversed([*zip(names, padded, strict=False)]))


def _csv_records(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the records that are not blank, each with the number of its first line."""
    reader = csv.reader(chain((text for _, text in lines), [_END]))
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except csv.Error as error:
            raise UsageError(f"{path}, line {start}: not CSV ({error}); is a quote not closed?") from None
        if cells == [_END]:
            return
        if cells and cells[-1].endswith(_END):
            raise UsageError(f"{path}, line {start}: a quote is opened and not closed")
        if any(cell.strip() for cell in cells):
            yield start, cells


def _json_objects(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects, each with the number of its line."""
    for line, text in lines:
        if not text.strip():
            continue
        if text.lstrip().startswith("["):
            raise UsageError(f"{path}, line {line}: got a JSON array, expected one object a line (JSON lines)")
        values = {_name(key): item for key, item in json_object(path, line, text).items()}
        if isinstance(values.get("messages"), list):
            answers = {name: value for name, value in values.items() if name in ANSWER and value not in (None, "")}
            values = {"prompt": values["messages"], "completion": values["messages"]} | answers
        elif not _is_complete(values):
            raise UsageError(f"{path}, line {line}: found {_one_line([*values]) or 'nothing'}; {_EXPECTED}")
        yield line, values


def _row(path: Path, number: int, line: int, values: Mapping[str, Any]) -> Row:
    """Make a row from an object with the usual keys; questions and solutions may be chats."""
    question, solution, answer = (
        next((values[name] for name in names if values.get(name) is not None), None)
        for names in (QUESTION, SOLUTION, ANSWER)
    )
    if question is values.get("instruction") and isinstance(values.get("input"), str) and values["input"].strip():
        question = f"{question}\n{values['input']}"
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    try:
        question, solution = _text("question", question, "user"), _text("solution", solution, "assistant")
        answer = _text("answer", answer)
        if question is None or not question.strip():
            raise UsageError("the question is empty")
        if not (solution or "").strip():
            expected = solution is not None or not any(name in values for name in ANSWER)
            if expected and not (answer or "").strip():
                raise UsageError("the solution is empty")
            solution = None
    except UsageError as error:
        raise UsageError(f"{path}, row {number} (line {line}): {error}") from None
    return Row(number, line, question, solution, answer if answer and answer.strip() else None)


def _text(name: str, value: Any, role: str | None = None) -> str | None:
    """Return a field as text; from a chat, the text of the last message with this role."""
    if role and isinstance(value, list):
        messages, value = value, None
        for message in reversed(messages):
            if not isinstance(message, dict) or "role" not in message:
                raise UsageError('a chat without roles, expected messages {"role": …, "content": …}')
            if message["role"] == role:
                value = message.get("content")
                break
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(f"the {name} is of type {type(value).__name__}, expected text")
    # JSON can contain halves of surrogate pairs, which can be neither encoded nor tokenised.
    return re.sub("[\ud800-\udfff]", "\ufffd", value)


def _is_complete(names: Sequence[str] | Mapping[str, Any]) -> bool:
    """Whether there is a question, and a solution or an answer."""
    return any(name in names for name in QUESTION) and any(name in names for name in (*SOLUTION, *ANSWER))


def _name(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip()).casefold()


def _one_line(names: Sequence[str]) -> str:
    text = " ".join(", ".join(names).split())
    return text if len(text) <= 200 else f"{text[:200]}…"


def _all_unescaped(rows: list[Row]) -> list[Row]:
    """Unescape all texts if the file has escaped but no real newlines, else only the texts that are escaped."""
    texts = [text for row in rows for text in (row.question, row.solution, row.answer) if text]
    whole_file = not any("\n" in text for text in texts) and any(map(is_escaped, texts))

    def meant(text: str | None) -> str | None:
        return unescaped(text) if text and (whole_file or is_escaped(text)) else text

    return [
        replace(
            row, question=meant(row.question) or row.question, solution=meant(row.solution), answer=meant(row.answer)
        )
        for row in rows
    ]
