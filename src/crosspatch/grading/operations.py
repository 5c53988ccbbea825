r"""Judges whether the operations on both sides that a solution states are the right or the planted ones.

Only statements ("Subtract 5x - 11 from both sides") are read, not the arithmetic after them, which may be wrong.

The rule: A problem without `right_operations` is not judged (None). Otherwise the first statement that is recognised as
right or planted decides; "neither" if there is none. A verb (moving or scaling) that both solvers use alike decides
nothing. Any other statement is judged by the first of these tests that recognises it:
1. The problem's lists. The statement is right if it is only among the right operations, and planted if it is only among
   the planted ones. A quadratic has two lists: the operations on the equation itself (the first one, unless the right
   side is 0), which apply until the text has factored, and those on the factors, which apply afterwards.
2. The terms. Subtracting a term or a whole side of the equation is right, and adding one is planted; a term that occurs
   with both signs decides nothing. The equation is the question's, then the last one before the statement whose right
   side is a number; after factoring, the last linear one.
3. The coefficient. Dividing by a number is right, and multiplying by a whole number is planted; with 1/k it is the
   other way round; 1, -1 and other fractions decide nothing. Quadratics are excluded: every solver divides by the
   common factor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from crosspatch.data.polynomial import Polynomial, divided
from crosspatch.data.problem import Operation, Problem
from crosspatch.grading.maths_text import one_spelling
from crosspatch.grading.reading import leading_polynomial
from crosspatch.grading.stated_equations import StatedEquation, equations_among_words

Told = Literal["right", "planted", "neither"]

_READ = 20_000  # only this many characters at the start are read
_NEAR = 1_000  # its equation is searched for in this many characters before a statement
_VERBS = {
    "add": "add",
    "subtract": "subtract",
    "deduct": "subtract",
    "divid": "divide",
    "multipl": "multiply",
}
_MOVE = r"\b(?P<{0}>add|subtract|deduct)(?:s|ing|ed)?"
_SCALE = r"\b(?P<{0}>divid|multipl)(?:e|es|ing|ed|y|ies|ying|ied)"
_SIDES = r"(?:both(?: of)?(?: the)?|each|either|the two)(?: sides?)?(?: of (?:the|this|our) [a-z]+)?"
_STATEMENT = re.compile(
    rf"{_MOVE.format('move')}\s(?P<moved>[^\n.:;]{{1,60}}?)\s(?:from|to|on|of|with)\s{_SIDES}\b"
    rf"|{_MOVE.format('move_by')}\s{_SIDES}\s(?:by|with)\s(?=(?P<moved_by>[^\n:;]{{1,40}}))"
    rf"|{_SCALE.format('scale')}\s{_SIDES}\s(?:by|with)\s(?=(?P<scaled>[^\n:;]{{1,60}}))"
    rf"|{_SCALE.format('scale_by')}\s(?:by\s)?(?P<scaled_by>[^\n.:;]{{1,40}}?)\s(?:from|to|on)\s{_SIDES}\b",
    re.IGNORECASE,
)
# The beginning and end of an operand, and words allowed before and in it: "the constant 5", "8 (of x)".
_OPERAND = re.compile(r"[-+(]?\s*(?:\d|\\frac|\b[a-zA-Z]\b)")
_OPERAND_ENDS = re.compile(r"\s(?:to|and|so|then|giving|we)\b")
_PASSED_OVER = re.compile(
    r"\bof \\?\(?[a-z]\b\)?,?|\([^()]*[a-zA-Z]{2}[^()]*\)|(?<!\\)\b[a-zA-Z]{2,}\b|\ba\b(?= [a-z\d])"
)


@dataclass(frozen=True)
class Statement:
    """A stated operation on both sides and its position: subtracting a signed polynomial, or dividing by a number.

    Thus equal operations compare equal: adding -5x is subtracting 5x, multiplying by 1/k is dividing by k.
    """

    verb: Literal["subtract", "divide"]
    operand: Polynomial
    start: int = 0

    @classmethod
    def of(cls, verb: str, operand: str, start: int = 0) -> Statement | None:
        """Make a statement; None if the operand is not a polynomial or, for a division, not a number."""
        text = _PASSED_OVER.sub(" ", _OPERAND_ENDS.split(operand)[0])
        begins = _OPERAND.search(text)
        value = leading_polynomial(text[begins.start() :]) if begins else None
        if value is None:
            return None
        if verb in ("add", "subtract"):
            return cls("subtract", -value if verb == "add" else value, start)
        if not value.constant or value.linear or value.square:
            return None
        return cls("divide", value if verb == "divide" else Polynomial(constant=divided(1, value.constant)), start)

    @property
    def key(self) -> tuple[str, Polynomial]:
        """The same for statements of the same operation."""
        return self.verb, self.operand


def statements(tidy: str) -> Iterator[Statement]:
    """Yield all statements of a text in one spelling, in order."""
    for match in _STATEMENT.finditer(tidy):
        verb, operand = (match[name] for name in match.re.groupindex if match[name])
        if statement := Statement.of(_VERBS[verb.lower()], operand, match.start()):
            yield statement


def judge_operation(text: str, problem: Problem) -> Told | None:
    """Judge whether the first decisive operation of a solution is right or planted; the module states the rule."""
    if not problem.right_operations:
        return None
    judge, tidy = _Judge.of(problem), one_spelling(text[:_READ])
    factoring = re.search(r"\) ?\(|factor", tidy, re.IGNORECASE)
    equations = [e for e in equations_among_words(tidy) if e.unknown == judge.unknown and _right_is_a_number(e)]
    for statement in statements(tidy):
        factored = factoring is not None and factoring.start() < statement.start
        near = [e for e in equations if statement.start - _NEAR <= e.start < statement.start]
        if factored:
            near = [e for e in near if not e.left.square]
        if told := judge.tell(statement, near[-1] if near else None, factored):
            return told
    return "neither"


@dataclass(frozen=True)
class _Judge:
    """The operations of a right and a mistaken solver, before and after factoring."""

    right: tuple[tuple[str, Polynomial], ...]
    planted: tuple[tuple[str, Polynomial], ...]
    equation: StatedEquation | None

    @classmethod
    def of(cls, problem: Problem) -> _Judge:
        asked = equations_among_words(one_spelling(problem.question))
        return cls(_keys(problem.right_operations), _keys(problem.planted_operations), asked[0] if asked else None)

    @property
    def unknown(self) -> str:
        return self.equation.unknown if self.equation else "x"

    def tell(self, statement: Statement, latest: StatedEquation | None, factored: bool) -> Told | None:
        """Return right, planted, or None if the statement decides nothing; it is about the equation `latest`."""
        # If both solvers do the same (only one of two rules is broken), the statement does not show the mistake.
        if statement.verb not in {verb for verb, _ in {*self.right} ^ {*self.planted}}:
            return None
        quadratic = self.equation is not None and bool(self.equation.left.square or self.equation.right.square)
        factored = factored and quadratic
        in_lists = [self._stage(keys, quadratic, factored) for keys in (self.right, self.planted)]
        told = _either(*(statement.key in keys for keys in in_lists))
        if told or statement.verb == "subtract":
            equations = [latest] if factored else [self.equation, latest]
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
        moves = 1 if self.equation.right else 0
        return keys[moves:] if factored else keys[:moves]


def _right_is_a_number(equation: StatedEquation) -> bool:
    left, right = equation.left, equation.right
    return bool(left.linear or left.square) and not (right.square or right.linear)


def _moves(operand: Polynomial, equation: StatedEquation) -> Told | None:
    """Whether subtracting `operand` removes a term or a side of the equation, or doubles one."""
    terms = [equation.left, equation.right]
    for side in (equation.left, equation.right):
        terms += [Polynomial(side.square), Polynomial(linear=side.linear), Polynomial(constant=side.constant)]
    return _either(*(bool(sign) and sign in terms for sign in (operand, -operand)))


def _either(right: bool, planted: bool) -> Told | None:
    return None if right == planted else ("right" if right else "planted")


def _keys(operations: Iterable[Operation]) -> tuple[tuple[str, Polynomial], ...]:
    read = (Statement.of(operation.verb, operation.operand) for operation in operations)
    return tuple(statement.key for statement in read if statement)
