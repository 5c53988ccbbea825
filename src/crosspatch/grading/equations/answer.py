r"""Whether a text's final answer solves an equation: all of its values, and no other.

Values that can be read exactly are put beside the exact solutions, which takes microseconds. Everything else, and
every decimal that is not exact, is left to `grading`, so that the two never differ. Knows nothing of how the answer
was reached.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from crosspatch.grading.equations.equation import Equation, alternatives
from crosspatch.grading.equations.expression import Expression, Unreadable
from crosspatch.grading.equations.reading import readings
from crosspatch.grading.grading import grade

Answered = Literal["right", "wrong", "unparsed"]

_BOX = re.compile(r"\\f?boxed\s?\{")
_ANSWER_LINE = re.compile(r"[#*_>\s]*(?:final\s)?answer\s?[*_]*\s?:[*_]*\s?(.+)", re.IGNORECASE)
_NOTHING = re.compile(r"\bno (?:real |such )?(?:solutions?|roots?|answer|values?|number)\b|\\emptyset|∅", re.IGNORECASE)
_EVERYTHING = re.compile(
    r"\binfinitely many\b|\b(?:all|every|any) (?:real )?(?:numbers?|values?)\b|\ball reals\b|\\mathbb\s?\{?R",
    re.IGNORECASE,
)
_END = 300  # characters in which a text without a box says that there is no solution


def judge_answer(text: str, equation: Equation) -> Answered:
    """A verdict on any text; half of the solutions is wrong, an answer that cannot be found is unparsed."""
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
    """The values of an answer, exactly as written; `rounded` if one is a decimal."""

    values: frozenset[Expression]
    rounded: bool

    @classmethod
    def read(cls, content: str, unknown: str) -> _Said | None:
        """None where anything is no plain value of the unknown."""
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
    """What the only box holds or, without any, what the last line gives as the answer; None where neither is plain."""
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
    """The text up to the brace that closes it."""
    depth = 1
    for match in re.finditer(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if not depth:
            return text[: match.start()].strip() or None
    return None
