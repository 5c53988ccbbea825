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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from crosspatch.data.polynomial import Polynomial, divided, number, size
from crosspatch.data.problem import Operation, Problem

Told = Literal["right", "planted", "neither"]

_READ, _NEAR = 20_000, 1_000  # characters read from the start, and looked back for an equation
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
_TERM = re.compile(
    r"\s*(?P<sign>[+-]?)\s*\(?\s*(?P<inner>-?)\s*"
    r"(?:\\frac\{(?P<over>-?\d{1,9})\}\{(?P<under>\d{1,9})\}|(?P<number>\d{1,9}(?:\.\d{1,9})?)(?:/(?P<by>\d{1,9}))?)?"
    r"\s*(?P<power>[a-z](?:\^\{?2\}?)?(?![a-z]))?\s*\)?"
)
_LINEAR = r"(?P<left>-?\s?\d*\s?{0}(?:\s?[+-]\s?\d+)?)\s?=\s?(?P<right>-?\s?\d+)(?![\d{0}])"
_SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\[dt]frac", r"\\frac"),
        (r"\\text\{([^{}]{0,60})\}", r" \1 "),
        (r"\\(?:left|right|,|;|!|:|quad|[()\[\]])(?![a-zA-Z])|\\(?![a-zA-Z])|[$`*]", " "),
        (r"[−–]", "-"),
        (r"²", "^2"),
        (r"[^\S\n]+", " "),
    ]
]


def stated_operations(text: str) -> list[Operation]:
    """All operations on both sides that can be read, in order.

    Each in one spelling, so that equal ones compare equal: adding -5x is subtracting 5x, multiplying by 1/k
    is dividing by k.
    """
    return [statement.operation for statement in _statements(_tidy(text))]


def judge_operation(text: str, problem: Problem) -> Told | None:
    """Whether the first telling operation of a solution is right or planted; the module states the rule."""
    if not problem.right_operations:
        return None
    judge, tidy = _Judge.of(problem), _tidy(text)
    factoring = re.search(r"\) ?\(|factor", tidy, re.IGNORECASE)
    for statement in _statements(tidy):
        factored = factoring is not None and factoring.start() < statement.start
        if told := judge.tell(statement, tidy[max(0, statement.start - _NEAR) : statement.start], factored):
            return told
    return "neither"


@dataclass(frozen=True)
class _Statement:
    """`verb` is subtract (of a signed polynomial) or divide (by a signed number)."""

    verb: str
    operand: Polynomial
    unknown: str
    start: int = 0

    @classmethod
    def of(cls, verb: str, operand: str, start: int = 0) -> _Statement | None:
        read = _polynomial(operand)
        if read is None:
            return None
        value, unknown = read
        if verb in ("add", "subtract"):
            return cls("subtract", -value if verb == "add" else value, unknown, start)
        if not value.constant or value.linear or value.square:
            return None
        return cls("divide", value if verb == "divide" else Polynomial(constant=divided(1, value.constant)), "", start)

    @property
    def key(self) -> tuple[str, Polynomial]:
        return self.verb, self.operand

    @property
    def operation(self) -> Operation:
        if self.verb == "subtract":
            adds = self.operand.leading < 0
            return Operation(
                "add" if adds else "subtract", (-self.operand if adds else self.operand).latex(self.unknown)
            )
        by = self.operand.constant
        multiplies = by.denominator > 1 and size(by) < 1
        return Operation("multiply", number(divided(1, by))) if multiplies else Operation("divide", number(by))


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

    def tell(self, statement: _Statement, before: str, factored: bool) -> Told | None:
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
        sides = [_polynomial(found[-1][side]) for side in ("left", "right")]
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
    read = (_Statement.of(operation.verb, operation.operand) for operation in operations)
    return tuple(statement.key for statement in read if statement)


def _statements(tidy: str) -> Iterator[_Statement]:
    for match in _STATEMENT.finditer(tidy):
        groups: Sequence[str] = [match[name] for name in match.re.groupindex if match[name]]
        verb, operand = groups
        if statement := _Statement.of(_VERBS[verb.lower()], operand, match.start()):
            yield statement


def _polynomial(text: str) -> tuple[Polynomial, str] | None:
    """The polynomial at the first digit, sign or lone letter, with its unknown ("" for a number)."""
    text = re.split(r"\s(?:to|and|so|then|giving|we)\b", text)[0]
    # Words before it ("the constant 5") are passed over; "of x" in "the coefficient of x, 8" too.
    text = re.sub(r"\bof \\?\(?[a-z]\b\)?,?|\b[a-zA-Z]{2,}\b(?<!\\frac)|\ba\b(?= [a-z\d])", " ", text)
    start = re.search(r"[-+(]?\s*(?:\d|\\frac|\b[a-z]\b)", text)
    if not start:
        return None
    position, total, unknown, first = start.start(), Polynomial(), "", True
    while match := _TERM.match(text, position):
        if match["number"] is None and match["over"] is None and match["power"] is None:
            break
        if not first and not match["sign"]:
            break
        size = Fraction(match["over"] or match["number"] or 1)
        divisor = int(match["under"] or match["by"] or 1)
        if not divisor:
            return None
        size *= Fraction(-1 if (match["sign"] == "-") != (match["inner"] == "-") else 1, divisor)
        power = match["power"] or ""
        if power and unknown not in ("", power[0]):
            return None
        unknown = power[:1] or unknown
        total += Polynomial(*(size if rank == place else Fraction(0) for rank, place in _places(power)))
        position, first = match.end(), False
    return None if first else (total, unknown)


def _places(power: str) -> list[tuple[int, int]]:
    place = 2 if not power else 1 if len(power) == 1 else 0
    return [(rank, place) for rank in range(3)]


def _equation(question: str) -> tuple[Polynomial, Polynomial, str] | None:
    """Both sides and the unknown of the equation that stands in a question."""
    side = r"-?\s?(?:\d+[a-z]?|[a-z])(?:\^2)?(?:\s[+-]\s(?:\d+[a-z]?|[a-z])(?:\^2)?)*"
    match = re.search(rf"(?<![\w^])({side})\s?=\s?({side})(?![\w^])", _tidy(question))
    if not match:
        return None
    left, right = _polynomial(match[1]), _polynomial(match[2])
    if not left or not right:
        return None
    return left[0], right[0], left[1] or right[1] or "x"


def _tidy(text: str) -> str:
    text = text[:_READ]
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return text
