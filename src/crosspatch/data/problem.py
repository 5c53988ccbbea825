"""A problem with its solution, and how problems are kept in files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from crosspatch.characters import half_surrogate, visible
from crosspatch.data.lines import read_lines, write_lines
from crosspatch.data.table import read_rows
from crosspatch.errors import UsageError


@dataclass(frozen=True)
class Operation:
    """Something done to both sides of an equation: ("subtract", "5x - 11")."""

    verb: str
    operand: str


SpanKind = Literal["word", "sign", "number"]


@dataclass(frozen=True)
class Span:
    """Where in a solution something wrong stands, in characters: the operation's word, a sign or a number."""

    kind: SpanKind
    start: int
    end: int


# What holds between what stood before a step and what stands after it: they have the same solutions, the same
# value, one is the derivative or an antiderivative of the other; or what stands after is true by itself.
Relation = Literal["solutions", "value", "derivative", "antiderivative", "truth"]


@dataclass(frozen=True)
class Step:
    """One step of a solution: its kind, its text, and what it does to both sides.

    `before` and `after` are what stands there, in LaTeX, and `relation` is what the step claims of the two.
    `planted` marks a step that the mistake has changed, whose claim is false; the steps after it compute on from
    its result, and their claims are true.
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
    """One question with its right answer and, where there is one, a worked solution.

    `family` is a kind of mathematics, `form` one kind of its questions (empty where the question was not made).
    `answer` is always the right one; `reached` is what the solution ends with, which differs in a wrong
    solution. `aliases` are other right answers; `key_points` is what an explanation has to say, each point in any
    of its wordings. `spans` are the places in the solution where its mistake can be seen. `right_operations` and
    `planted_operations` are what a right and a mistaken solver do to both sides; both are empty where the mistake
    cannot be told by that.
    """

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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Problem:
        """The problem that `asdict` gave; raises TypeError for foreign keys."""
        values = dict(values)
        values["aliases"] = tuple(values.get("aliases", ()))
        values["key_points"] = tuple(tuple(point) for point in values.get("key_points", ()))
        values["steps"] = tuple(
            Step(**{**step, "operations": _operations(step["operations"])}) for step in values.get("steps", ())
        )
        values["spans"] = tuple(Span(**span) for span in values.get("spans", ()))
        for key in ("right_operations", "planted_operations"):
            values[key] = _operations(values.get(key, ()))
        return cls(**values)


# What every problem says in words.
_TEXTS = ("id", "domain", "family", "question", "answer")


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """One JSON object a line, UTF-8."""
    write_lines(path, map(asdict, problems))


def read_problems(path: Path) -> list[Problem]:
    """The problems that `write_problems` wrote; raises UsageError, with the line's number, for anything else."""
    problems = []
    for number, values in read_lines(path):
        try:
            problems.append(Problem.from_dict(values))
            wrong = [name for name in _TEXTS if not isinstance(values[name], str)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}, line {number}: no problem of a run: {str(error)[:200]!r}") from None
        if wrong:
            raise UsageError(f"{path}, line {number}: no problem of a run: its {wrong[0]} is no text")
    return problems


def read_prompts(path: Path) -> list[Problem]:
    """A prompt file of the user's: `{"prompt_id": …, "question": …}` a line, with `domain` and `answer` if known.

    Raises UsageError, with the line's number, for an empty question, a missing or repeated prompt_id, half of a
    surrogate pair (which JSON can spell), or no prompt at all.
    """
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, values in read_lines(path):
        prompt_id, question = values.get("prompt_id"), values.get("question")
        if prompt_id is None or not isinstance(question, str):
            keys = ", ".join(map(visible, sorted(values)[:10])) or "nothing"
            raise UsageError(f'{path}, line {number}: got {keys}, expected {{"prompt_id": …, "question": …}}')
        if not question.strip():
            raise UsageError(f"{path}, line {number}: the question is empty")
        if any(half_surrogate(str(value)) is not None for value in values.values()):
            raise UsageError(
                f"{path}, line {number}: got half of a surrogate pair, which is no character; repair its encoding"
            )
        if str(prompt_id) in seen:
            raise UsageError(f"{path}, line {number}: prompt_id {visible(str(prompt_id))} stands there twice")
        seen.add(str(prompt_id))
        problems.append(
            Problem(
                id=str(prompt_id),
                domain=str(values.get("domain") or "prompts"),
                family=str(values.get("family") or "prompts"),
                question=question,
                answer=str(values.get("answer") or ""),
            )
        )
    if not problems:
        raise UsageError(f"{path} holds no prompt; expected JSON lines")
    return problems


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


def _operations(values: Iterable[dict[str, str]]) -> tuple[Operation, ...]:
    return tuple(Operation(**value) for value in values)
