"""Checks one question and its solution: the answer, the steps, the LaTeX.

An answer is compared with the exact solutions of the equation in its question or, without an equation, with the gold
answer. Without either, it is unparsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal

from crosspatch.data.table import Row
from crosspatch.grading.equation import Equation, alternatives
from crosspatch.grading.expression import Expression, Unreadable
from crosspatch.grading.grading import grade, kind_of
from crosspatch.grading.health import unclosed
from crosspatch.grading.math_answer import read_gold
from crosspatch.grading.reading import readings
from crosspatch.grading.stated_equations import find_equation
from crosspatch.grading.worked_steps import Steps, check_steps

Answered = Literal["right", "wrong", "unparsed"]

_BOX = re.compile(r"\\f?boxed\s?\{")
_ANSWER_LINE = re.compile(r"[#*_>\s]*(?:final\s)?answer\s?[*_]*\s?:[*_]*\s?(.+)", re.IGNORECASE)
_NOTHING = re.compile(r"\bno (?:real |such )?(?:solutions?|roots?|answer|values?|number)\b|\\emptyset|∅", re.IGNORECASE)
_EVERYTHING = re.compile(
    r"\binfinitely many\b|\b(?:all|every|any) (?:real )?(?:numbers?|values?)\b|\ball reals\b|\\mathbb\s?\{?R",
    re.IGNORECASE,
)
_END = 300  # without a box, "no solution" is searched for in this many characters at the end

# Counts an example's tokens, given its question and its solution.
CountTokens = Callable[[str, str], int]


@dataclass(frozen=True)
class RowCheck:
    """The findings for one row.

    `reason` is why the answer is unparsed, otherwise empty. `key` is the same for questions that differ only in
    wording.
    """

    row: Row
    key: Hashable
    answered: Answered
    reason: str
    wrong_gold: bool
    steps: Steps
    unclosed: tuple[str, ...]
    tokens: int | None


def check_row(row: Row, count_tokens: CountTokens | None = None) -> RowCheck:
    """Check one row."""
    equation = find_equation(row.question)
    text = row.text or ""
    answered, reason = _answered(row, equation)
    unclosed_in = [*(f"in the question, {reason}" for reason in unclosed(row.question)), *unclosed(text)]
    return RowCheck(
        row,
        equation.key if equation else _words(row.question),
        answered,
        reason,
        equation is not None and row.gold is not None and judge_answer(row.gold, equation) == "wrong",
        check_steps(text, equation),
        tuple(unclosed_in),
        count_tokens(row.question, text) if count_tokens else None,
    )


def _answered(row: Row, equation: Equation | None) -> tuple[Answered, str]:
    """Return the verdict and, if it is unparsed, the reason."""
    if row.text is None:
        return "unparsed", "no solution and no answer"
    if equation:
        answered = judge_answer(row.text, equation)
        return answered, "no final answer found" if answered == "unparsed" else ""
    if row.gold is None:
        return "unparsed", "no equation in the question and no gold answer"
    match grade(row.text, row.gold).verdict:
        case "correct":
            return "right", ""
        case "incorrect":
            return "wrong", ""
        case _:
            unreadable = kind_of(row.gold) == "math" and read_gold(row.gold) is None
            return "unparsed", "the gold answer cannot be read" if unreadable else "no final answer found"


def judge_answer(text: str, equation: Equation) -> Answered:
    """Judge any text: only some of the solutions is wrong, and an answer that cannot be found is unparsed."""
    content = _content(text)
    said = _Said.read(content, equation.unknown) if content is not None else None
    true = equation.solutions
    if said and said.values == true.values and not true.everything:
        return "right"
    if not true.real:
        where = text[-_END:] if content is None else content
        fits, other = (_EVERYTHING, _NOTHING) if true.everything else (_NOTHING, _EVERYTHING)
        if fits.search(where):
            return "right"
        return "wrong" if said or other.search(where) or _graded(text, f"{equation.unknown} = 0") else "unparsed"
    if said and not said.rounded:
        return "wrong"
    return _graded(text, equation.latex) or "unparsed"


def _graded(text: str, gold: str) -> Literal["right", "wrong"] | None:
    match grade(text, gold, kind="math").verdict:
        case "correct":
            return "right"
        case "incorrect":
            return "wrong"
        case _:
            return None


@dataclass(frozen=True)
class _Said:
    """The exact values of an answer; `rounded` if one is a decimal."""

    values: frozenset[Expression]
    rounded: bool

    @classmethod
    def read(cls, content: str, unknown: str) -> _Said | None:
        """Parse an answer; None if any part is not a plain value of the unknown."""
        values: set[Expression] = set()
        for part in alternatives(content):
            *labels, value = part.split("=")
            if labels and not re.fullmatch(rf"\s*{re.escape(unknown)}(?:_\{{?\d\}}?)?\s*", labels[0]):
                return None
            try:
                values.update(readings(value, unknown))
            except Unreadable:
                return None
        if not values or any(value.degree for value in values):
            return None
        return cls(frozenset(values), "." in content)


def _content(text: str) -> str | None:
    """Return the content of the only box or, without a box, the answer on the last line; None if neither is clear."""
    boxes = [match.end() for match in _BOX.finditer(text)]
    if boxes:
        return _closed(text[boxes[0] : boxes[0] + _END]) if len(boxes) == 1 else None
    line = text.rstrip()[-_END:].rpartition("\n")[2].strip()
    stated = _ANSWER_LINE.fullmatch(line)
    if stated is None and line != text.strip():
        return None
    content = (stated[1] if stated else line).strip("$*_ ")
    return content.removesuffix(".").strip("$*_ ")


def _closed(text: str) -> str | None:
    """Return the text before the brace that closes it; None if it is empty or not closed."""
    depth = 1
    for match in re.finditer(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if not depth:
            return text[: match.start()].strip() or None
    return None


_POINTS = frozenset('.,;:!?"“”„«»…¿¡‘`_')


def _words(question: str) -> tuple[str, ...]:
    """Return a question's words and signs, without case, spacing, emphasis and punctuation."""
    plain = question.casefold().replace("’", "'").replace("**", " ")
    plain = re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_]{2})", " ", plain)
    found = re.findall(r"\d+(?:[.,:]\d+)*!?|[^\W\d_]+|\S", plain)
    return tuple(token for token in found if token not in _POINTS)
