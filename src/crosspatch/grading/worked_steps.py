"""Checks the steps of a worked solution: whether each equation on a separate line follows from the previous one.

An equation follows if it has the same solutions. A text may also treat several roots one by one, each on separate
lines, if it includes them all. Words are not judged. Lines that cannot be read are counted, not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from crosspatch.grading.equation import Equation, Solutions, alternatives, solve_all
from crosspatch.grading.expression import Expression, Unreadable
from crosspatch.grading.reading import readings
from crosspatch.grading.stated_equations import equation_lines

_LONGEST, _MOST_ALTERNATIVES, _MOST_CASES = 300, 6, 6
_TOLERANCE = 1e-3  # for a decimal that rounds a value without a short exact decimal, as in grading
_COMPARISON = re.compile(r"[<>≤≥≠]|!=|:=|\\(?:l|g)(?:e|t|eq|eqslant)(?![a-zA-Z])|\\n(?:e|eq)(?![a-zA-Z])")
_NUMBER = re.compile(r"[-−+]?\s*(?:[0-9.,]+(?:/[0-9]+)?|\\[dt]?frac\s?\{-?[0-9]+\}\s?\{-?[0-9]+\})")


@dataclass(frozen=True)
class Gap:
    """A line that does not follow from an earlier line, or an arithmetic claim whose sides differ."""

    before: str
    after: str


@dataclass(frozen=True)
class Steps:
    """The number of steps read and of unreadable equations, and the gaps where a step does not follow."""

    read: int
    unread: int
    gaps: tuple[Gap, ...]


def check_steps(solution: str, equation: Equation | None = None) -> Steps:
    """Check a text's steps; the first step is compared with the question's equation, if there is one."""
    follower = _Follower(equation)
    read = unread = 0
    unknown = equation.unknown if equation else ""
    for line in equation_lines(solution):
        unknown = unknown or _only_letter(line)
        try:
            statements = list(_statements(line, unknown))
        except Unreadable:
            unread += 1
            continue
        read += len(statements)
        for statement in statements:
            follower.take(statement)
    return Steps(read, unread, follower.finish())


@dataclass(frozen=True)
class _Statement:
    """One equation as read.

    `arithmetic`: it has no unknown, and `solutions` is everything if it is true. `rounded`: it has decimals.
    """

    left: str
    right: str
    solutions: Solutions
    arithmetic: bool = False
    rounded: bool = False

    @property
    def text(self) -> str:
        return f"{self.left} = {self.right}" if self.right else self.left

    @property
    def finished(self) -> bool:
        """Whether the equation gives the unknown as one number, `x = 2`."""
        sides = (self.left, self.right), (self.right, self.left)
        return any(x.isalpha() and _NUMBER.fullmatch(value) for x, value in sides)


def _only_letter(line: str) -> str:
    letters = set(re.findall(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])", line))
    return letters.pop() if len(letters) == 1 else ""


def _statements(line: str, unknown: str) -> Iterator[_Statement]:
    """Yield a line's statements in order: `x = 4/2 = 2` has two. Raises Unreadable."""
    if len(line) > _LONGEST or _COMPARISON.search(line):
        raise Unreadable
    if unknown:
        line = re.sub(rf"(?<![a-zA-Z\\]){re.escape(unknown)}\s?(?:_\{{?\d\}}?|[₀-₉])", unknown, line)
    parts = alternatives(line)
    if not 1 <= len(parts) <= _MOST_ALTERNATIVES:
        raise Unreadable
    if len(parts) == 1:
        yield from _chain(parts[0], unknown)
        return
    head = parts[0].partition("=")[0]
    chains = [list(_chain(part if "=" in part else f"{head} = {part}", unknown)) for part in parts]
    if any(statement.arithmetic for chain in chains for statement in chain):
        raise Unreadable
    for turn in range(max(map(len, chains))):
        now = [chain[min(turn, len(chain) - 1)] for chain in chains]
        yield _Statement(
            " or ".join(statement.text for statement in now),
            "",
            Solutions.union(statement.solutions for statement in now),
            rounded=any(statement.rounded for statement in now),
        )


def _chain(text: str, unknown: str) -> Iterator[_Statement]:
    """Yield the equations of `a = b = c`: the only side with the unknown and each other side, else neighbours."""
    sides = [side.strip() for side in text.split("=")]
    read = [readings(side, unknown) for side in sides]
    with_unknown = [i for i, values in enumerate(read) if any(value.degree for value in values)]
    if len(with_unknown) == 1:
        pairs = [sorted((with_unknown[0], i)) for i in range(len(sides)) if i != with_unknown[0]]
    else:
        pairs = [[i, i + 1] for i in range(len(sides) - 1)]
    for i, j in pairs:
        solutions, rounded = solve_all(read[i], read[j]), "." in sides[i] + sides[j]
        if rounded and not with_unknown and all(_nearly(a, b) for a, b in zip(read[i], read[j], strict=False)):
            solutions = Solutions(everything=True)
        yield _Statement(sides[i], sides[j], solutions, not with_unknown, rounded)


def _nearly(exact: Expression, said: Expression) -> bool:
    """Whether a decimal is rounded from a value without a short exact decimal."""
    if exact == said:
        return True
    size = exact.rational
    if size is not None and 10**30 % size.denominator == 0:
        return False
    value = exact.approximate()
    return abs(value - said.approximate()) <= _TOLERANCE * abs(value)


@dataclass
class _Follower:
    """Compares statements in order: `whole` is the last one with all solutions, `cases` are the later partial ones."""

    equation: Equation | None
    whole: _Statement | None = None
    cases: list[_Statement] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    broken: bool = False  # a gap among the cases

    def __post_init__(self) -> None:
        if self.equation:
            self.whole = _Statement(self.equation.left, self.equation.right, self.equation.solutions)

    def take(self, statement: _Statement) -> None:
        """Compare one statement with the previous ones."""
        said, whole = statement.solutions, self.whole
        if statement.arithmetic:
            # 0 = 5 follows from an equation without solutions.
            if said.none and not (whole and whole.solutions.none):
                self.gaps.append(Gap(statement.left, statement.right))
        elif whole is None:
            self.whole = statement
        elif said.everything and not whole.solutions.everything:
            return  # an identity, such as 3x + 2x = 5x, holds for every x
        elif self._same(whole, statement):
            # The next step is compared with the exact value, not with a rounded one.
            self._begin(whole if said != whole.solutions else statement)
        elif (case := self._case(statement)) is not None:
            self.cases.pop(case)
            self._add_case(statement)
        elif said.values and said.values < whole.solutions.values and not (self._unfinished and statement.finished):
            self._add_case(statement)
        elif self.cases and len(said.values) > 1 and said.values <= (self._named | whole.solutions.values):
            self._begin(statement)  # a line that combines the cases again
        elif self._restated(statement):
            self._begin(statement)
        else:
            self._gap(whole, statement)

    def finish(self) -> tuple[Gap, ...]:
        """Return all gaps, after the last statement."""
        whole = self.whole
        # An equation must keep all its roots to the end; a word problem may drop a root that is no answer.
        if whole and self.equation and self.cases and not self.broken and self._named != whole.solutions.values:
            self.gaps.append(Gap(whole.text, self.cases[0].text))
        return tuple(self.gaps)

    def _same(self, before: _Statement, after: _Statement) -> bool:
        a, b = before.solutions, after.solutions
        if a == b:
            return True
        return (
            after.rounded
            and len(a.values) == len(b.values) > 0
            and all(any(_nearly(value, said) for said in b.values) for value in a.values)
        )

    def _restated(self, statement: _Statement) -> bool:
        """Whether the statement repeats the question's equation, as at the start of a check."""
        if not self.equation or not statement.right or statement.solutions != self.equation.solutions:
            return False
        return Equation.of(statement.left, statement.right, self.equation.unknown).key == self.equation.key

    def _begin(self, statement: _Statement) -> None:
        self.whole, self.cases, self.broken = statement, [], False

    def _gap(self, whole: _Statement, statement: _Statement) -> None:
        self.gaps.append(Gap((self.cases[-1] if self._unfinished else whole).text, statement.text))
        if len(whole.solutions.values) < 2 or len(statement.solutions.values) != 1:
            self._begin(statement)
            return
        self.broken = True
        if self._unfinished:
            self.cases.pop()
        self._add_case(statement)

    def _add_case(self, statement: _Statement) -> None:
        others = [case for case in self.cases if case.solutions != statement.solutions]
        self.cases = [*others[-_MOST_CASES:], statement]

    def _case(self, statement: _Statement) -> int | None:
        """Return the index of the case that a statement continues: the last case, or an unfinished one."""
        for i in reversed(range(len(self.cases))):
            if (i == len(self.cases) - 1 or not self.cases[i].finished) and self._same(self.cases[i], statement):
                return i
        return None

    @property
    def _unfinished(self) -> bool:
        """Whether the last case is unfinished."""
        return bool(self.cases) and not self.cases[-1].finished

    @property
    def _named(self) -> frozenset[Expression]:
        return Solutions.union(case.solutions for case in self.cases).values
