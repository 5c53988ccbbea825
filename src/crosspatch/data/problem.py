"""Defines a problem with its solution, and reads and writes files of problems and prompts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from crosspatch.characters import half_surrogate, visible
from crosspatch.data.lines import read_lines, write_lines
from crosspatch.data.table import read_rows
from crosspatch.errors import UsageError


@dataclass(frozen=True)
class Operation:
    """An operation on both sides of an equation: ("subtract", "5x - 11")."""

    verb: str
    operand: str


SpanKind = Literal["word", "sign", "number"]


@dataclass(frozen=True)
class Span:
    """A wrong part of a solution, with its character positions: an operation's word, a sign or a number."""

    kind: SpanKind
    start: int
    end: int


# A step claims that `before` and `after` have the same solutions, or the same value; that `after` is the derivative or
# an antiderivative of `before`; or that `after` is true by itself.
Relation = Literal["solutions", "value", "derivative", "antiderivative", "truth"]


@dataclass(frozen=True)
class Step:
    """One step of a solution: its kind, its text, and its operations on both sides.

    `before` and `after` are the formulae before and after the step, in LaTeX; `relation` is the step's claim.
    `planted`: the mistake changed this step, so its claim is false. Later steps continue from its result, and
    their claims are true.
    """

    kind: str
    text: str
    operations: tuple[Operation, ...] = ()
    planted: bool = False
    before: str = ""
    after: str = ""
    relation: Relation = "solutions"


@dataclass(frozen=True)
class Problem:
    """One question with its right answer and, optionally, a worked solution.

    `family` is a field of mathematics, `form` a form of its questions (empty for a question that was not generated).
    `answer` is always the right answer; `reached` is the answer at the end of the solution, which differs in a
    wrong solution. `aliases` are other right answers; `key_points` are the points of a good explanation, each in
    several wordings. `spans` are the parts of the solution that show its mistake. `right_operations` and
    `planted_operations` are the operations on both sides of a right and of a mistaken solver; both are empty if they
    do not show the mistake.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    domain: str
    family: str
    question: str
    answer: str
    solution: str | None = None
    reached: str | None = None
    mistake: str | None = None
    form: str = ""
    aliases: tuple[str, ...] = ()
    key_points: tuple[tuple[str, ...], ...] = ()
    steps: tuple[Step, ...] = ()
    spans: tuple[Span, ...] = ()
    right_operations: tuple[Operation, ...] = ()
    planted_operations: tuple[Operation, ...] = ()


_PROBLEM = TypeAdapter(Problem)


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write one JSON object per line, in UTF-8."""
    write_lines(path, map(asdict, problems))


def read_problems(path: Path, **defaults: str) -> list[Problem]:
    """Read the problems of a file of `write_problems`; raises UsageError, with the line's number, if malformed.

    Fields that an object lacks are filled from `defaults`.
    """
    problems = []
    for number, values in read_lines(path):
        try:
            problems.append(_PROBLEM.validate_python(defaults | values))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UsageError(
                f"{path}, line {number}: not a problem of a run ({place[:100]!r}: {first['msg']})"
            ) from None
    return problems


def read_prompts(path: Path) -> list[Problem]:
    """Read a user's prompts: lines `{"prompt_id": …, "question": …}` with optional `domain`, `family` and `answer`.

    Raises UsageError, with the line's number, for an empty question, a missing or repeated prompt_id, half of a
    surrogate pair (which JSON can encode), or a file without prompts.
    """
    problems: dict[str, Problem] = {}
    for number, values in read_lines(path):
        prompt_id, question = values.get("prompt_id"), values.get("question")
        name = str(prompt_id)
        wrong = None
        if prompt_id is None or not isinstance(question, str):
            keys = ", ".join(map(visible, sorted(values)[:10])) or "nothing"
            wrong = f'got {keys}, expected {{"prompt_id": …, "question": …}}'
        elif not question.strip():
            wrong = "the question is empty"
        elif any(half_surrogate(str(value)) is not None for value in values.values()):
            wrong = "got half of a surrogate pair, which is not a character; repair the file's encoding"
        elif name in problems:
            wrong = f"the prompt_id {visible(name)} occurs twice"
        if wrong:
            raise UsageError(f"{path}, line {number}: {wrong}")
        domain, family = (str(values.get(key) or "prompts") for key in ("domain", "family"))
        problems[name] = Problem(name, domain, family, str(question), answer=str(values.get("answer") or ""))
    if not problems:
        raise UsageError(f"{path} has no prompts, expected JSON lines")
    return list(problems.values())


def given_problems(path: Path, split: str) -> list[Problem]:
    """Read questions and solutions from a CSV or JSONL file; raises UsageError, with the row, without a solution."""
    problems = []
    for i, row in enumerate(read_rows(path)):
        if row.solution is None:
            raise UsageError(f"{path}, row {row.number}: has no solution to train on")
        problems.append(Problem(f"{split}-{i:03d}", split, "given", row.question, row.answer or "", row.solution))
    return problems
