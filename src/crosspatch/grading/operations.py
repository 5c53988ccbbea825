r"""Judges whether the operations on both sides that a solution states are the right or the planted ones.

Only statements ("Subtract 5x - 11 from both sides") are read, not the arithmetic after them, which may be wrong.

The rule: A problem without `right_operations` is not judged (None). Otherwise the first statement that is recognised as
right or planted decides; "neither" if there is none. A verb (moving or scaling) that both solvers use alike decides
nothing. Any other statement is judged by the first of these tests that recognises it:
1. The problem's lists. The statement is right or planted if it is among these operations only. A quadratic has two
   lists: the operations on the equation itself (the first one, unless the right side is 0), until the text has
   factored, and those on the factors, afterwards.
2. The terms. Subtracting a term or a whole side of the equation is right, and adding one is planted; a term that occurs
   with both signs decides nothing. The equation is the question's, then the last one before the statement whose right
   side is a number; after factoring, the last linear one.
3. The coefficient. Dividing by a number is right, and multiplying by a whole number is planted; with 1/k it is the
   other way round; 1, -1 and other fractions decide nothing. Quadratics are excluded: every solver divides by the
   common factor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Literal

import sympy

from crosspatch.data.problem import Problem
from crosspatch.grading.equations import Equation, Unreadable, X, readings, stated_equations, tokens
from crosspatch.grading.spelling import one_spelling

Told = Literal["right", "planted", "neither"]

# An operation on both sides: subtracting a signed expression, or dividing by a number. Thus equal operations compare
# equal: adding -5x is subtracting 5x, multiplying by 1/k is dividing by k.
_Operation = tuple[Literal["subtract", "divide"], sympy.Expr]

_READ = 20_000  # only this many characters at the start are read
_VERBS = {"add": "add", "subtract": "subtract", "deduct": "subtract", "divid": "divide", "multipl": "multiply"}
_SIDES = r"(?:both(?: of)?(?: the)?|each|either|the two)(?: sides?)?(?: of (?:the|this|our) [a-z]+)?"
_STATEMENT = re.compile(
    r"\b(?P<verb>add|subtract|deduct|divid|multipl)(?:s|ing|ed|e|es|y|ies|ying|ied)?\s"
    rf"(?:{_SIDES}\s(?:by|with)\s(?=(?P<after>[^\n:;]{{1,60}}))"
    rf"|(?:by\s)?(?P<before>[^\n.:;]{{1,60}}?)\s(?:from|to|on|of|with)\s{_SIDES}\b)",
    re.IGNORECASE,
)
# The beginning and end of an operand, and words allowed before and in it: "the constant 5", "8 (of x)".
_OPERAND = re.compile(r"[-+(]?\s*(?:\d|\\frac|\b[a-zA-Z]\b)")
_OPERAND_ENDS = re.compile(r"\s(?:to|and|so|then|giving|we)\b")
_PASSED_OVER = re.compile(
    r"\bof \\?\(?[a-z]\b\)?,?|\([^()]*[a-zA-Z]{2}[^()]*\)|(?<!\\)\b[a-zA-Z]{2,}\b|\ba\b(?= [a-z\d])"
)


def judge_operation(text: str, problem: Problem) -> Told | None:
    """Judge whether the first decisive operation of a solution is right or planted; the module states the rule."""
    if not problem.right_operations:
        return None
    right, planted = (
        [operation for each in listed if (operation := _operation(each.verb, each.operand))]
        for listed in (problem.right_operations, problem.planted_operations)
    )
    # If both solvers do the same (only one of two rules is broken), the statement does not show the mistake.
    telling = {verb for verb, _ in {*right} ^ {*planted}}
    asked = next(stated_equations(one_spelling(problem.question)), None)
    unknown, quadratic = (asked.unknown, _is_quadratic(asked)) if asked else ("x", False)
    tidy = one_spelling(text[:_READ])
    equations = [
        e for e in stated_equations(tidy) if e.unknown == unknown and e.sides[0].has(X) and not e.sides[1].has(X)
    ]
    factoring = re.search(r"\) ?\(|factor", tidy, re.IGNORECASE)
    for start, (verb, operand) in _statements(tidy):
        if verb not in telling:
            continue
        factored = quadratic and factoring is not None and factoring.start() < start
        stage = slice(None)
        if asked and quadratic:
            moves = int(asked.sides[1] != 0)
            stage = slice(moves, None) if factored else slice(moves)
        told = _either((verb, operand) in right[stage], (verb, operand) in planted[stage])
        if not told and verb == "subtract":
            earlier = [e for e in equations if e.start < start and not (factored and _is_quadratic(e))]
            compared = [asked, *earlier[-1:]] if asked and not factored else earlier[-1:]
            told = next(filter(None, (_move(operand, equation) for equation in compared)), None)
        elif not told and not quadratic and abs(operand) != 1:
            told = _either(operand.is_Integer, (1 / operand).is_Integer)
        if told:
            return told
    return "neither"


def _is_quadratic(equation: Equation) -> bool:
    return any(side.has(X**2) for side in equation.sides)


def _statements(tidy: str) -> Iterator[tuple[int, _Operation]]:
    """Yield all operations that a text in one spelling states, with their positions, in order."""
    for match in _STATEMENT.finditer(tidy):
        if operation := _operation(_VERBS[match["verb"].lower()], match["before"] or match["after"]):
            yield match.start(), operation


@lru_cache(maxsize=4096)
def _operation(verb: str, operand: str) -> _Operation | None:
    """Read an operation; None if the operand is no expression or, for a division, no number."""
    text = _PASSED_OVER.sub(" ", _OPERAND_ENDS.split(operand)[0])
    begins = _OPERAND.search(text)
    value = _leading_expression(text[begins.start() :]) if begins else None
    if value is None:
        return None
    if verb in ("add", "subtract"):
        return "subtract", -value if verb == "add" else value
    if not value or not value.is_Rational:
        return None
    return "divide", value if verb == "divide" else 1 / value


def _leading_expression(text: str) -> sympy.Expr | None:
    """Parse the longest expression in one unknown at the beginning of a text."""
    found = tokens(text)
    unknown = next((token for token in found if len(token) == 1 and token.isalpha()), "")
    for end in range(len(found), 0, -1):
        with suppress(Unreadable):
            return readings(" ".join(found[:end]), unknown)[0]
    return None


def _move(operand: sympy.Expr, equation: Equation) -> Told | None:
    """Whether subtracting `operand` removes a term or a side of the equation, or doubles one."""
    terms = [term for side in equation.sides for term in (side, *sympy.Add.make_args(side))]
    return _either(*(bool(sign) and sign in terms for sign in (operand, -operand)))


def _either(right: bool, planted: bool) -> Told | None:
    return None if right == planted else ("right" if right else "planted")
