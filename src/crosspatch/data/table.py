r"""Questions with solutions as others keep them in files: CSV or JSON lines, in the usual spellings of the columns.

Takes a file as it is: with or without a header, a byte order mark, CRLF, stray quotes, rows that end early.
Text that was escaped (`\n` and `\\frac` written out, as the published files have it) is read as what was meant
(see `escaped_text`). What cannot be read is refused with its line.
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
# A line that no file holds, since NUL bytes are refused: only an open quote can swallow it.
_END = "\0"


@dataclass(frozen=True)
class Row:
    """One question with what the file says of it; `number` counts rows from 1, `line` is where it starts.

    `solution` and `answer` are None where the file has none.
    """

    number: int
    line: int
    question: str
    solution: str | None
    answer: str | None

    @property
    def text(self) -> str | None:
        """What is to be checked: the solution or, where there is none, the answer."""
        return self.answer if self.solution is None else self.solution

    @property
    def gold(self) -> str | None:
        """What a solution can be checked against: the answer, unless it is itself what is checked."""
        return None if self.solution is None else self.answer


def read_rows(path: Path) -> list[Row]:
    """All rows of a CSV or JSONL file; raises UsageError, naming the file and the line, where it is none."""
    lines = numbered_lines(path)
    first = next(lines, None)
    if first is None:
        raise UsageError(f"{path} is empty, expected questions with solutions")
    by_suffix = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows, ".json": _json_rows}
    by_content = _json_rows if first[1].lstrip().startswith(("{", "[")) else _csv_rows
    rows = list(by_suffix.get(path.suffix.lower(), by_content)(path, chain([first], lines)))
    if not rows:
        raise UsageError(f"{path} holds no row, expected questions with solutions")
    return _as_meant(rows)


@dataclass(frozen=True)
class _Place:
    """Where a row stands."""

    path: Path
    number: int
    line: int

    def row(self, question: Any, solution: Any, answer: Any, solution_expected: bool) -> Row:
        """The row, if its fields are what they have to be."""
        question, solution = self._text("question", question), self._text("solution", solution)
        if isinstance(answer, int | float) and not isinstance(answer, bool):
            answer = str(answer)
        answer = self._text("answer", answer)
        if question is None or not question.strip():
            raise self.refusal("the question is empty")
        if not (solution or "").strip():
            if (solution_expected or solution is not None) and not (answer or "").strip():
                raise self.refusal("the solution is empty")
            solution = None
        return Row(self.number, self.line, question, solution, answer if answer and answer.strip() else None)

    def _text(self, name: str, value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.refusal(f"the {name} is of type {type(value).__name__}, expected text")
        # Halves of surrogate pairs, which JSON can spell, can be neither written nor tokenised.
        return re.sub("[\ud800-\udfff]", "\ufffd", value)

    def refusal(self, why: str) -> UsageError:
        return UsageError(f"{self.path}, row {self.number} (line {self.line}): {why}")


def _csv_rows(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    columns: _Columns | None = None
    number = 0
    for line, cells in _csv_records(path, lines):
        if columns is None:
            columns = _Columns.of(cells)
            if columns is None:
                found = _one_line(", ".join(cells))
                raise UsageError(f"{path}, line {line}: found the columns {found}; {_EXPECTED}")
            if columns.named:
                continue
        number += 1
        place = _Place(path, number, line)
        if any(cell.strip() for cell in cells[columns.count :]):
            raise place.refusal(f"{len(cells)} cells, expected {columns.count}; is a comma not in quotes?")
        yield columns.row(place, cells)


def _csv_records(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """The records that are not blank, each with the line where it starts."""
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


@dataclass(frozen=True)
class _Columns:
    """Which column is what: of the header or, where there is none (`named` is false), the first and the second."""

    question: int
    solution: int | None
    answer: int | None
    count: int
    named: bool = True

    @classmethod
    def of(cls, cells: Sequence[str]) -> _Columns | None:
        """From the first record; None where it neither names the columns nor is a question with an answer."""
        names = [_name(cell) for cell in cells]
        question, solution, answer = (
            next((names.index(name) for name in known if name in names), None) for known in (QUESTION, SOLUTION, ANSWER)
        )
        if question is not None and (solution is not None or answer is not None):
            return cls(question, solution, answer, len(cells))
        named = question is not None or solution is not None or answer is not None
        if named or len(cells) != 2 or not (len(cells[0].split()) > 2 or re.search(r"[\d=?]", cells[0])):
            return None
        return cls(0, None, 1, 2, named=False)

    def row(self, place: _Place, cells: Sequence[str]) -> Row:
        question, solution, answer = (
            cells[i] if i is not None and i < len(cells) else None for i in (self.question, self.solution, self.answer)
        )
        return place.row(question, solution, answer, solution_expected=self.solution is not None)


def _json_rows(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    number = 0
    for line, text in lines:
        if not text.strip():
            continue
        number += 1
        if text.lstrip().startswith("["):
            raise UsageError(f"{path}, line {line}: got a JSON array, expected one object a line (JSON lines)")
        value = json_object(path, line, text)
        yield _json_row(_Place(path, number, line), {_name(key): item for key, item in value.items()})


def _json_row(place: _Place, values: Mapping[str, Any]) -> Row:
    """A row of an object with the usual keys, or of a chat (`messages`, or `prompt` and `completion` as lists)."""
    if isinstance(values.get("messages"), list):
        question, solution = _said(place, values["messages"], "user"), _said(place, values["messages"], "assistant")
        return place.row(question, solution, _first(values, ANSWER), solution_expected=True)
    if not any(name in values for name in QUESTION) or not any(name in values for name in (*SOLUTION, *ANSWER)):
        found = _one_line(", ".join(values)) or "nothing"
        raise UsageError(f"{place.path}, line {place.line}: found {found}; {_EXPECTED}")
    question, solution, answer = (_first(values, known) for known in (QUESTION, SOLUTION, ANSWER))
    question = _said(place, question, "user") if isinstance(question, list) else question
    solution = _said(place, solution, "assistant") if isinstance(solution, list) else solution
    if question is values.get("instruction") and isinstance(values.get("input"), str) and values["input"].strip():
        question = f"{question}\n{values['input']}"
    return place.row(question, solution, answer, solution_expected=not any(name in values for name in ANSWER))


def _said(place: _Place, messages: Sequence[Any], role: str) -> str | None:
    """The last message of a role."""
    for message in reversed(messages):
        if not isinstance(message, dict) or "role" not in message:
            raise place.refusal('a chat without roles, expected messages {"role": …, "content": …}')
        if message["role"] == role:
            return message.get("content")
    return None


def _first(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    """What stands under the first of the names that holds anything."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def _name(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip()).casefold()


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:200]}…"


def _as_meant(rows: list[Row]) -> list[Row]:
    """Escapes undone: in every text of a file without a real newline that has escaped ones, else text by text."""
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
