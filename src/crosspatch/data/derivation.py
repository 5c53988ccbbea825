"""Exercises, and their solutions as steps, before a style turns the steps into text."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Hashable
from dataclasses import dataclass, fields
from random import Random
from typing import Any, ClassVar, TypeAlias, TypeVar

from crosspatch.data.latex import is_marked, mark, plain
from crosspatch.data.mistakes import Broken
from crosspatch.data.problem import Operation, Relation

T = TypeVar("T")


class Unsolvable(Exception):
    """The exercise has no answer under these rules."""


@dataclass(frozen=True)
class Done:
    """The sentence for an operation on both sides, its verb marked if the operation is `wrong`; `also` follows it."""

    operation: Operation
    wrong: bool = False
    also: str = ""

    def __str__(self) -> str:
        verb, operand = mark("word", self.operation.verb.capitalize(), self.wrong), f"${self.operation.operand}$"
        sides = {"add": f"{operand} to both sides", "subtract": f"{operand} from both sides"}
        return f"{verb} {sides.get(self.operation.verb, f'both sides by {operand}')}{self.also}:"


@dataclass(frozen=True)
class WorkedStep:
    """One step: a title, then sentences and LaTeX formulae, with marks around the wrong parts.

    If `before` is None, it is the last formula of the previous step; if `after` is None, the last formula of this step;
    if `relation` is None, the exercise's relation. `repeats`: the marks are the same as in the previous step.
    """

    kind: str
    title: str
    body: tuple[str | Done, ...] = ()
    before: str | None = None
    after: str | None = None
    relation: Relation | None = None
    repeats: bool = False

    @property
    def planted(self) -> bool:
        """Whether the mistake changed this step."""
        return not self.repeats and any(is_marked(str(part)) for part in (self.title, *self.body))

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations on both sides, in order."""
        return tuple(part.operation for part in self.body if isinstance(part, Done))


# A generator of steps that returns a result. A whole solution returns the answer in LaTeX and the answer's values.
Work: TypeAlias = Generator[WorkedStep, None, T]
Solving: TypeAlias = Work[tuple[str, tuple[Any, ...]]]


def collected(work: Work[T]) -> tuple[tuple[WorkedStep, ...], T]:
    """Run a generator and return all its steps and its result."""
    steps = []
    while True:
        try:
            steps.append(next(work))
        except StopIteration as done:
            return tuple(steps), done.value


@dataclass(frozen=True)
class Derivation:
    """The steps from the given formulae to the answer.

    `given` holds one formula, or two separated by `; `. `label` introduces them in prose ("We are given the equation")
    and is empty for a question that needs no introduction. `values` are the answer as exact objects (see
    `Exercise.admits`).
    """

    given: str
    label: str
    relation: Relation
    steps: tuple[WorkedStep, ...]
    answer: str
    values: tuple[Any, ...]

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations on both sides, in order."""
        return tuple(operation for step in self.steps for operation in step.operations)


@dataclass(frozen=True)
class Exercise(ABC):
    """One question of a form; it has several wordings and can be solved by different rules.

    A subclass declares its `wordings`, in which `{given}` is replaced by the given formula as plain text and other
    names by a field or a value from `_names`; its derivations' `label` and `relation`; and a solution's steps.
    """

    wordings: ClassVar[tuple[str, ...]]
    tag: ClassVar[tuple[str, ...]] = ()
    label: ClassVar[str] = ""
    relation: ClassVar[Relation] = "solutions"

    @property
    def key(self) -> Hashable:
        """The same for two exercises that ask the same question, in any wording and with any letters."""
        return *self.tag, *(getattr(self, field.name) for field in fields(self) if field.compare)

    @property
    def given(self) -> str:
        """The formula that a solution begins with, in LaTeX: an equation, an expression, or two formulae with `; `."""
        return self._given()

    def ask(self, rng: Random) -> str:
        """Return the question in a random wording."""
        wording = rng.choice(self.wordings)
        return wording.format(**{"given": plain(self.given), **vars(self), **self._names(rng)})

    def _names(self, rng: Random) -> dict[str, object]:
        """Return values for the names in the wordings that are not fields."""
        return {}

    def solve(self, broken: Broken) -> Derivation:
        """Return the solution of a solver that breaks these rules; raises Unsolvable if there is no answer."""
        steps, (answer, values) = collected(self._work(broken))
        return Derivation(self.given, self.label, self.relation, steps, answer, values)

    @abstractmethod
    def _given(self) -> str: ...

    @abstractmethod
    def _work(self, broken: Broken) -> Solving:
        """Yield the steps and return the answer."""

    @abstractmethod
    def admits(self, value: Any) -> bool:
        """Whether a value answers the question, checked by exact substitution, not by solving again."""

    @property
    def answers(self) -> int:
        """The number of values in the right answer."""
        return 1


def may_be_taught(key: Hashable) -> bool:
    """Whether a question may be used in teaching: true for three questions in four, by a hash of `Exercise.key`.

    Experiments on the taught model use the other questions. The result depends only on the question, so it is the
    same for every seed and on every machine.
    """
    return hashlib.blake2b(repr(key).encode(), digest_size=1).digest()[0] % 4 != 0
