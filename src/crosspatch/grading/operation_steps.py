r"""Each operation of a worked solution, part by part: is its word, sign or number the right one or the planted one?

An operation is a statement of something done to both sides ("Subtract 6 from both sides"); what is done without
saying so is not judged. It is held against the equation that stands before it, as the text has it, so that an earlier
slip is not counted again. The parts are

- word: the verb. Right takes a term of the equation away (move) or divides by the unknown's factor (isolate);
- sign: of the moved term where it can be seen to arrive (`5x = 18 - 6`), or the multiplication or division that is
  written (`x = 12/5`). Where no such line stands there is no verdict on it;
- number: the first equation in which all is carried out (`5x = 12`).

Each is `right`, `planted` where it is what a solver with the problem's mistake would write there, else `neither`. Where
both would write the same, as when dividing by -1, it is right. What the mistake turns round, moves or isolations, is
taken from the operations of the problem's right and wrong solutions. Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from crosspatch.data.polynomial import Polynomial, divided
from crosspatch.data.problem import Operation as Listed
from crosspatch.data.problem import Problem
from crosspatch.grading.operation_parts import Isolation, Kind, Move, Operation, Pair, Part, factor_in
from crosspatch.grading.operations import Told
from crosspatch.grading.stated_equations import StatedEquation, stated_equations
from crosspatch.grading.statements import Statement, statements, tidied

_MOST = 60  # operations judged, so that a text that loops makes no thousand rows
_END = re.compile(r"\banswer\b|\\f?boxed|\bcheck\b|\bverif", re.IGNORECASE)


@dataclass(frozen=True)
class PartVerdict:
    """The verdict on one part of one operation; `move` counts a text's operations from 0."""

    move: int
    kind: Kind
    part: Part
    verdict: Told


def judge_parts(text: str, problem: Problem) -> list[PartVerdict]:
    """All verdicts in the text's order; none where the problem's mistake cannot be told by operations."""
    if not problem.right_operations:
        return []
    solvers, tidy = _Solvers.of(problem), tidied(text)
    written, said = list(stated_equations(tidy)), list(statements(tidy))
    before = [equation.pair for equation in stated_equations(tidied(problem.question))]
    found: list[PartVerdict] = []
    last = move = 0
    for i, statement in enumerate(said):
        before = _on_one_line(tidy, [e for e in written if last <= e.start < statement.start]) or before
        if all(map(_solved, before)):
            # One factor is done with: another one is next.
            open_ones = [e for e in written if e.start < statement.start and not _solved(e.pair)]
            before = before + _on_one_line(tidy, open_ones)
        last = statement.end
        operation = solvers.judge(statement, before)
        if operation is None:
            continue
        end = said[i + 1].start if i + 1 < len(said) else len(tidy)
        stop = _END.search(tidy, statement.end, end)
        lines = [e for e in written if statement.end <= e.start < (stop.start() if stop else end)]
        found += [PartVerdict(move, operation.kind, part, told) for part, told in operation.parts(lines)]
        # The next one is done to what is written until then or, where nothing is, to what this one made.
        before, move = operation.made or before, move + 1
        if move == _MOST:
            break
    return found


def _on_one_line(tidy: str, equations: Sequence[StatedEquation]) -> list[Pair]:
    """The last of some equations, with those before it on its line."""
    return [e.pair for e in equations if "\n" not in tidy[e.start : equations[-1].start]]


def _solved(pair: Pair) -> bool:
    """Whether it gives the unknown as a number."""
    return any(a == Polynomial(linear=1) and not b.linear and not b.square for a, b in (pair, pair[::-1]))


@dataclass(frozen=True)
class _Solvers:
    """What the right and the mistaken solver of a problem do, and which rules the mistake turns round."""

    right: frozenset[tuple[str, Polynomial]]
    planted: frozenset[tuple[str, Polynomial]]
    turns_moves: bool
    turns_isolations: bool

    @classmethod
    def of(cls, problem: Problem) -> _Solvers:
        right, planted = problem.right_operations, problem.planted_operations
        moves = [_first(ops, ("add", "subtract")) for ops in (right, planted)]
        scales = [_first(ops, ("multiply", "divide")) for ops in (right, planted)]
        # Where only the mistake leaves a factor to be taken away it is a whole one, which is divided by.
        isolations = scales[0] or "divide", scales[1]
        return cls(
            _keys(right),
            _keys(planted),
            turns_moves=None not in moves and moves[0] != moves[1],
            turns_isolations=isolations[1] is not None and isolations[0] != isolations[1],
        )

    def judge(self, statement: Statement, before: Sequence[Pair]) -> Operation | None:
        """What is said, done to one of the equations before it; None where it is neither move nor isolation."""
        return self._move(statement, before) if statement.verb == "subtract" else self._isolation(statement, before)

    def _move(self, statement: Statement, before: Sequence[Pair]) -> Move:
        """Either a term is taken away, or one is added that stands there: then that one was meant to move."""
        term = statement.operand
        for pair in reversed(before):
            away = [i for i in (0, 1) if _stands_in(term, pair[i])]
            doubled = [i for i in (0, 1) if _stands_in(-term, pair[i])]
            if not away and not doubled:
                continue
            is_right = bool(away)
            if away and doubled:
                # It stands there with both signs: as the problem's solvers do, or by where such terms go.
                listed = self._listed(statement)
                goes_from = 0 if not term.linear and not term.square else 1
                is_right = goes_from in away if listed == "neither" else listed == "right"
            source = (away if is_right else doubled)[0]
            word: Told = "right" if is_right else "planted" if self.turns_moves else "neither"
            return Move.of(word, pair, term if is_right else -term, source, self.turns_moves)
        pairs = [(pair[0] - term, pair[1] - term) for pair in before[-1:]]
        return Move(self._listed(statement), before[-1] if before else None, tuple(pairs))

    def _isolation(self, statement: Statement, before: Sequence[Pair]) -> Isolation | None:
        by = statement.operand.constant
        if not before:
            return Isolation(self._listed(statement))
        pair = next((p for p in reversed(before) if factor_in(p) in (by, divided(1, by))), before[-1])
        if any(side.square for side in pair):
            return None  # a common factor, which every solver takes out
        factor = factor_in(pair)
        if factor is None:
            return Isolation.of(self._listed(statement), pair, by, self.turns_isolations)
        in_parts = by.denominator == 1 != abs(by) and divided(factor, by).denominator == 1  # 6x = 12 by 3, then by 2
        if by == factor or abs(factor) == abs(by) == 1 or in_parts:
            return Isolation.of("right", pair, by, self.turns_isolations)
        word: Told = "planted" if self.turns_isolations and by * factor == 1 else "neither"
        return Isolation.of(word, pair, factor, self.turns_isolations)

    def _listed(self, statement: Statement) -> Told:
        """Whose list it stands in."""
        in_right, in_planted = statement.key in self.right, statement.key in self.planted
        return "neither" if in_right == in_planted else "right" if in_right else "planted"


def _keys(operations: Sequence[Listed]) -> frozenset[tuple[str, Polynomial]]:
    return frozenset(s.key for one in operations if (s := Statement.of(one.verb, one.operand)))


def _first(operations: Sequence[Listed], verbs: tuple[str, str]) -> str | None:
    return next((operation.verb for operation in operations if operation.verb in verbs), None)


def _stands_in(term: Polynomial, side: Polynomial) -> bool:
    """Whether all of a term's powers stand in a side as they do in the term."""
    return bool(term) and all(not t or t == s for t, s in zip(term.coefficients, side.coefficients, strict=True))
