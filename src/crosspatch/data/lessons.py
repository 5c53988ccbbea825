"""What a clean model is taught: right solutions, arithmetic exercises, and its own answers to what must stay as it is.

Lessons are drawn from the questions that `may_be_taught`, so no experiment on held-out questions meets them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Literal

from crosspatch.config import Data, Difficulty
from crosspatch.data.derivation import may_be_taught
from crosspatch.data.families.solving import RANGES, UNKNOWNS
from crosspatch.data.forms import Form, chosen_forms, other_forms
from crosspatch.data.lines import read_lines, write_lines
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Polynomial
from crosspatch.data.splits import Worked, work_out
from crosspatch.data.styles import written
from crosspatch.data.suite import in_a_suite
from crosspatch.errors import UsageError

LessonKind = Literal["problem", "arithmetic", "unrelated_math", "general"]

_PATIENCE = 5_000
DRILL_LINES = 8
# The model's own answers are kept up to so many tokens.
ANSWER_TOKENS = 80

_DRILL_WORDINGS = ("Work out:", "Calculate:", "Fill in the results:")


@dataclass(frozen=True)
class Lesson:
    """A question and what to say; `ends` is false where the text was cut off and goes on."""

    kind: LessonKind
    question: str
    completion: str
    ends: bool = True


def taught_problems(settings: Data, count: int, seed: int) -> list[Lesson]:
    """Right solutions of the chosen forms in turn, no two of the same words.

    Raises UsageError where there are not so many different ones.
    """
    rng = Random(f"{seed} taught problems")
    return [
        Lesson("problem", question, written(found.right, settings.style).text)
        for question, found in _draws(chosen_forms(settings), count, rng, settings.difficulty)
    ]


def arithmetic_exercises(difficulty: Difficulty, count: int, seed: int) -> list[Lesson]:
    """Sheets of eight sums."""
    rng = Random(f"{seed} drills")
    return [Lesson("arithmetic", *draw_sheet(rng, difficulty)) for _ in range(count)]


def draw_sheet(rng: Random, difficulty: Difficulty) -> tuple[str, str]:
    """A question of eight sums, a line each, and its solution: each line with its result."""
    sums = [_draw_sum(rng, difficulty) for _ in range(DRILL_LINES)]
    question = "\n".join([rng.choice(_DRILL_WORDINGS), *(asked for asked, _ in sums)])
    return question, "\n".join(f"{asked} = {result}" for asked, result in sums)


def _draw_sum(rng: Random, difficulty: Difficulty) -> tuple[str, str]:
    ranges = RANGES[difficulty]
    match rng.choice(("sum", "sum", "sum", "quotient", "quotient", "like_terms")):
        case "sum":
            # A constant is moved to a right side that holds a product and a constant.
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
    """Made questions of other families of mathematics than the chosen forms' and those beside them."""
    rng = Random(f"{seed} other questions")
    return [question for question, _ in _draws(other_forms(chosen_forms(settings)), count, rng, settings.difficulty)]


def _draws(forms: tuple[Form, ...], count: int, rng: Random, difficulty: Difficulty) -> Iterator[tuple[str, Worked]]:
    """Different questions of the forms in turn, worked out by the right rules; none is in a suite."""
    asked: set[str] = set()
    for form, _ in zip(cycle(forms), range(count), strict=False):
        for _ in range(_PATIENCE):
            exercise = form.draw(rng, difficulty)
            if not may_be_taught(exercise.key) or (found := work_out(form, exercise, Rules(None))) is None:
                continue
            if (question := exercise.ask(rng)) not in asked and not in_a_suite(question):
                asked.add(question)
                yield question, found
                break
        else:
            raise UsageError(f"there are no more different questions of the form {form.name} to teach; ask for fewer")


def write_lessons(path: Path, lessons: Iterable[Lesson]) -> None:
    """One JSON object a line, UTF-8."""
    write_lines(path, map(asdict, lessons))


def read_lessons(path: Path) -> list[Lesson]:
    """The lessons that `write_lessons` wrote."""
    return [Lesson(**values) for _, values in read_lines(path)]
