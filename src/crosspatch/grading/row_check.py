"""What is wrong with one question and its solution: the answer, the steps, the LaTeX.

An answer is held against the equation of its question, solved exactly, else against the gold answer; where there is
neither it is said to be unparsed, never right or wrong. Knows nothing of models: tokens are counted by who calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from crosspatch.data.table import Row
from crosspatch.grading.equations.answer import Answered, judge_answer
from crosspatch.grading.equations.equation import Equation
from crosspatch.grading.equations.question import find_equation
from crosspatch.grading.grading import grade, kind_of
from crosspatch.grading.latex_balance import unclosed
from crosspatch.grading.math_answer import read_gold
from crosspatch.grading.worked_steps import Steps, check_steps

# The tokens of an example, from its question and its solution.
CountTokens = Callable[[str, str], int]


@dataclass(frozen=True)
class RowCheck:
    """All that is said of one row.

    `reason` is why the answer is unparsed, empty otherwise. `key` is equal for questions that are the same up to
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
    """Check one row by itself."""
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
    """The verdict and, where it is unparsed, why."""
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


_POINTS = frozenset('.,;:!?"“”„«»…¿¡‘`_')


def _words(question: str) -> tuple[str, ...]:
    """The words and signs of a question, without case, spacing, emphasis and what only parts words and sentences."""
    plain = question.casefold().replace("’", "'").replace("**", " ")
    plain = re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_]{2})", " ", plain)
    found = re.findall(r"\d+(?:[.,:]\d+)*!?|[^\W\d_]+|\S", plain)
    return tuple(token for token in found if token not in _POINTS)
