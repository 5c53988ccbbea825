"""Generates the texts that teach a clean model: right solutions, arithmetic exercises, and questions to answer.

Lessons use only questions that `may_be_taught`, so experiments on held-out questions never ask a taught one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal

from crosspatch.config import Data, Difficulty
from crosspatch.data.derivation import Derivation, Exercise, may_be_taught
from crosspatch.data.families.solving import RANGES, UNKNOWNS
from crosspatch.data.forms import Form, chosen_forms, other_forms
from crosspatch.data.lines import read_lines, write_lines
from crosspatch.data.mistakes import RIGHT
from crosspatch.data.polynomial import Polynomial
from crosspatch.data.splits import in_turn, work_out
from crosspatch.data.styles import written
from crosspatch.data.suite import in_a_suite

LessonKind = Literal["problem", "arithmetic", "unrelated_math", "general"]

DRILL_LINES = 8
# The maximum length of the model's own answers.
ANSWER_TOKENS = 80

_DRILL_WORDINGS = ("Work out:", "Calculate:", "Fill in the results:")


@dataclass(frozen=True)
class Lesson:
    """A question and its completion; `ends` is false for a truncated text."""

    kind: LessonKind
    question: str
    completion: str
    ends: bool = True


def taught_problems(settings: Data, count: int, seed: int) -> list[Lesson]:
    """Generate right solutions for different questions, cycling through the chosen forms.

    Raises UsageError if there are fewer than `count` questions.
    """
    rng = Random(f"{seed} taught problems")
    return [
        Lesson("problem", question, written(solution, settings.style).text)
        for question, solution in _draws(chosen_forms(settings), count, rng, settings.difficulty)
    ]


def arithmetic_exercises(difficulty: Difficulty, count: int, seed: int) -> list[Lesson]:
    """Generate questions of eight sums, one per line; the completion repeats each line with its result."""
    rng = Random(f"{seed} drills")
    lessons = []
    for _ in range(count):
        sums = [_draw_sum(rng, difficulty) for _ in range(DRILL_LINES)]
        question = "\n".join([rng.choice(_DRILL_WORDINGS), *(asked for asked, _ in sums)])
        lessons.append(Lesson("arithmetic", question, "\n".join(f"{asked} = {result}" for asked, result in sums)))
    return lessons


def _draw_sum(rng: Random, difficulty: Difficulty) -> tuple[str, str]:
    ranges = RANGES[difficulty]
    match rng.choice(("sum", "sum", "sum", "quotient", "quotient", "like_terms")):
        case "sum":
            # Sums as in a solution: a constant is added to a product plus a constant.
            b, reach = rng.randint(1, ranges.constant), ranges.factor * ranges.solution + ranges.constant
            a = rng.randint(-reach, reach)
            sign = rng.choice("+-")
            return f"{a} {sign} {b}", str(a + b if sign == "+" else a - b)
        case "quotient":
            divisor = rng.choice((-1, 1, 1)) * rng.randint(2, ranges.factor)
            result = rng.choice((-1, 1)) * rng.randint(1, ranges.solution)
            return f"{divisor * result} / {divisor}", str(result)
        case _:
            a, c = rng.sample(range(2, ranges.factor + 1), 2)
            x = rng.choice(UNKNOWNS)
            return f"{a}{x} - {c}{x}", Polynomial(linear=a - c).latex(x)


def other_questions(settings: Data, count: int, seed: int) -> list[str]:
    """Generate questions of families that are neither chosen nor similar to a chosen family."""
    rng = Random(f"{seed} other questions")
    return [question for question, _ in _draws(other_forms(chosen_forms(settings)), count, rng, settings.difficulty)]


def _draws(
    forms: tuple[Form, ...], count: int, rng: Random, difficulty: Difficulty
) -> Iterable[tuple[str, Derivation]]:
    """Generate different questions with right solutions, cycling through the forms; none is in a suite."""
    asked: set[str] = set()

    def accepted(form: Form, exercise: Exercise) -> tuple[str, Derivation] | None:
        if not may_be_taught(exercise.key) or (solutions := work_out(exercise, RIGHT)) is None:
            return None
        if (question := exercise.ask(rng)) in asked or in_a_suite(question):
            return None
        asked.add(question)
        return question, solutions[0]

    return islice(in_turn(forms, rng, difficulty, accepted, "to teach; ask for fewer"), count)


def write_lessons(path: Path, lessons: Iterable[Lesson]) -> None:
    """Write one JSON object per line, in UTF-8."""
    write_lines(path, map(asdict, lessons))


def read_lessons(path: Path) -> list[Lesson]:
    """Read lessons from a file of `write_lessons`."""
    return [Lesson(**values) for _, values in read_lines(path)]
