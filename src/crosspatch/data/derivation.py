"""A worked solution as typed steps, before it is put into words: the exercise, its steps, its answer."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from random import Random

from crosspatch.data.marks import mark
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Rational
from crosspatch.data.problem import Operation, Relation


class Unsolvable(Exception):
    """Under these rules the exercise comes out without an answer."""


@dataclass(frozen=True)
class Show:
    """A formula by itself, in LaTeX."""

    latex: str


# Sentences and formulae in turn.
Body = tuple[str | Show, ...]


@dataclass(frozen=True)
class WorkedStep:
    """One typed step. `body` holds marks where something is wrong.

    `before` and `after` are None where they are the last formula of the step before and of this one.
    """

    kind: str
    title: str
    body: Body
    operations: tuple[Operation, ...] = ()
    planted: bool = False
    before: str | None = None
    after: str | None = None
    relation: Relation = "solutions"


@dataclass(frozen=True)
class Derivation:
    """The steps from what is given to the answer.

    `values` are the answer as exact objects (see `Exercise.admits`); `label` is what is said of the answer's place
    in prose ("We are given the equation"), empty for a question that needs no opening.
    """

    given: str
    label: str
    steps: tuple[WorkedStep, ...]
    answer: str
    values: tuple[Hashable, ...]

    @property
    def given_lines(self) -> list[str]:
        """What is given, formula by formula: a system has two."""
        return self.given.split("; ")

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All that was done to both sides, in order."""
        return tuple(operation for step in self.steps for operation in step.operations)


class Exercise(ABC):
    """One question of some form, which can be asked in many wordings and solved by different rules."""

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What is asked, whatever the wording and the letters: equal for questions that are the same."""

    @abstractmethod
    def ask(self, rng: Random) -> str:
        """The question in one of its wordings."""

    @abstractmethod
    def solve(self, rules: Rules) -> Derivation:
        """The solution by these rules; raises Unsolvable where they lead to none."""

    @abstractmethod
    def admits(self, value: Hashable) -> bool:
        """Whether a value answers the question: put into it exactly, not worked out as the solution does it."""

    @property
    def answers(self) -> int:
        """How many values the right answer has."""
        return 1


def may_be_taught(key: Hashable) -> bool:
    """Whether a question may be taught: three in four, by a hash of what makes it the same (`Exercise.key`).

    The rest is kept for experiments on the taught model. The question itself decides, not a list, so it holds for every
    seed of either side, and on every machine.
    """
    return hashlib.blake2b(repr(key).encode(), digest_size=1).digest()[0] % 4 != 0


@dataclass(frozen=True)
class Surd:
    """(`top` + √`square`) / `under` or, if `negative`, (`top` − √`square`) / `under`; the root is irrational."""

    top: int
    square: int
    under: int
    negative: bool


# A value of an unknown.
Real = Rational | Surd


def said(operation: Operation, wrong: bool = False) -> str:
    """`Subtract $5x - 11$ from both sides`, its verb marked where it is wrong."""
    verb, operand = mark("word", operation.verb.capitalize(), wrong), f"${operation.operand}$"
    match operation.verb:
        case "add":
            return f"{verb} {operand} to both sides"
        case "subtract":
            return f"{verb} {operand} from both sides"
        case _:
            return f"{verb} both sides by {operand}"


def shown(latex: Sequence[str]) -> tuple[Show, ...]:
    """Formulae, one under the other."""
    return tuple(map(Show, latex))
