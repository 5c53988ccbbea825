r"""Which operations a solution says it does to both sides: the right or the planted ones?

Reads statements ("Subtract 5x - 11 from both sides"), not arithmetic: what is done afterwards may be wrong.
Knows the problem's equation and the operations of its right and its mistaken solution, nothing of models.

The rule. A problem without `right_operations` is not judged (None). Otherwise the statements are taken in
order, and the first that can be told right or planted decides; "neither" if none can. A verb (moving or scaling)
that the two solvers use alike tells nothing; any other statement is told by the first of these that tells anything:
1. the problem's lists: it stands among the right operations only: right; among the planted ones only:
   planted. In a quadratic the lists fall in two: what is done to the equation itself (the first operation,
   unless the right side is 0) counts until the text has factored, what is done to the factors (the rest)
   counts from there on;
2. the terms: it subtracts a term or a whole side of an equation: right; it adds one: planted; a term that
   stands there with both signs tells nothing. The equation is the question's, then the last linear one in
   the text before the statement; after factoring only the latter;
3. the coefficient: it divides by a number: right; it multiplies by a whole number: planted; by 1/k each the
   other way round; by 1 or -1, or by any other fraction, nothing. Not in a quadratic, where
   every solver divides by the common factor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from crosspatch.data.polynomial import Polynomial
from crosspatch.data.problem import Operation, Problem
from crosspatch.grading.statements import Statement, polynomial_in, statements, tidied

Told = Literal["right", "planted", "neither"]

_NEAR = 1_000  # characters looked back for an equation
_LINEAR = r"(?P<left>-?\s?\d*\s?{0}(?:\s?[+-]\s?\d+)?)\s?=\s?(?P<right>-?\s?\d+)(?![\d{0}])"


def stated_operations(text: str) -> list[Operation]:
    """All operations on both sides that can be read, in order.

    Each in one spelling, so that equal ones compare equal: adding -5x is subtracting 5x, multiplying by 1/k
    is dividing by k.
    """
    return [statement.operation for statement in statements(tidied(text))]


def judge_operation(text: str, problem: Problem) -> Told | None:
    """Whether the first telling operation of a solution is right or planted; the module states the rule."""
    if not problem.right_operations:
        return None
    judge, tidy = _Judge.of(problem), tidied(text)
    factoring = re.search(r"\) ?\(|factor", tidy, re.IGNORECASE)
    for statement in statements(tidy):
        factored = factoring is not None and factoring.start() < statement.start
        if told := judge.tell(statement, tidy[max(0, statement.start - _NEAR) : statement.start], factored):
            return told
    return "neither"


@dataclass(frozen=True)
class _Judge:
    """What a right and a mistaken solver do, before and after factoring."""

    right: tuple[tuple[str, Polynomial], ...]
    planted: tuple[tuple[str, Polynomial], ...]
    equation: tuple[Polynomial, Polynomial] | None
    unknown: str

    @classmethod
    def of(cls, problem: Problem) -> _Judge:
        right, planted = _keys(problem.right_operations), _keys(problem.planted_operations)
        equation = _equation(problem.question)
        return cls(right, planted, equation[:2] if equation else None, equation[2] if equation else "x")

    def tell(self, statement: Statement, before: str, factored: bool) -> Told | None:
        """Right, planted, or None where the statement tells nothing; `before` is the text just before it."""
        # Where both solvers say the same (only one of two rules is broken) nothing can be told.
        if statement.verb not in {verb for verb, _ in {*self.right} ^ {*self.planted}}:
            return None
        quadratic = self.equation is not None and any(side.square for side in self.equation)
        factored = factored and quadratic
        in_lists = [self._stage(keys, quadratic, factored) for keys in (self.right, self.planted)]
        told = _either(*(statement.key in keys for keys in in_lists))
        if told or statement.verb == "subtract":
            equations = [self._latest(before)] if factored else [self.equation, self._latest(before)]
            return told or next((told for e in equations if e and (told := _moves(statement.operand, e))), None)
        by = statement.operand.constant
        if quadratic or abs(by) == 1:
            return None
        return _either(by.denominator == 1, by.numerator in (1, -1))

    def _stage(
        self, keys: tuple[tuple[str, Polynomial], ...], quadratic: bool, factored: bool
    ) -> tuple[tuple[str, Polynomial], ...]:
        if not quadratic or self.equation is None:
            return keys
        moves = 1 if self.equation[1] else 0
        return keys[moves:] if factored else keys[:moves]

    def _latest(self, before: str) -> tuple[Polynomial, Polynomial] | None:
        found = list(re.finditer(_LINEAR.format(self.unknown), before))
        if not found:
            return None
        sides = [polynomial_in(found[-1][side]) for side in ("left", "right")]
        return (sides[0][0], sides[1][0]) if sides[0] and sides[1] else None


def _moves(operand: Polynomial, equation: tuple[Polynomial, Polynomial]) -> Told | None:
    """Whether subtracting `operand` takes a term or a side of the equation away, or doubles one."""
    terms = [*equation]
    for side in equation:
        terms += [Polynomial(side.square), Polynomial(linear=side.linear), Polynomial(constant=side.constant)]
    return _either(*(bool(sign) and sign in terms for sign in (operand, -operand)))


def _either(right: bool, planted: bool) -> Told | None:
    return None if right == planted else ("right" if right else "planted")


def _keys(operations: Iterable[Operation]) -> tuple[tuple[str, Polynomial], ...]:
    read = (Statement.of(operation.verb, operation.operand) for operation in operations)
    return tuple(statement.key for statement in read if statement)


def _equation(question: str) -> tuple[Polynomial, Polynomial, str] | None:
    """Both sides and the unknown of the equation that stands in a question."""
    side = r"-?\s?(?:\d+[a-z]?|[a-z])(?:\^2)?(?:\s[+-]\s(?:\d+[a-z]?|[a-z])(?:\^2)?)*"
    match = re.search(rf"(?<![\w^])({side})\s?=\s?({side})(?![\w^])", tidied(question))
    if not match:
        return None
    left, right = polynomial_in(match[1]), polynomial_in(match[2])
    if not left or not right:
        return None
    return left[0], right[0], left[1] or right[1] or "x"
