"""Grades texts: the rows of a generations table, and the answers in a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from crosspatch.characters import visible
from crosspatch.data.lines import read_lines
from crosspatch.data.problem import Problem
from crosspatch.errors import UsageError
from crosspatch.grading.grading import Grade, Kind, grade, grade_explanation
from crosspatch.grading.grading_worker import SECONDS, GradingWorker
from crosspatch.grading.health import health
from crosspatch.grading.operations import judge_operation
from crosspatch.tables import BEHAVIOUR, HEALTH

# A function like `grading.grade`, such as a worker's method.
Grader = Callable[..., Grade]


def judge(problem: Problem, generation: dict[str, Any], grader: Grader = grade) -> dict[str, Any]:
    """Return the behaviour table's row for a generations table's row; the problem must have an answer.

    A problem with key points is graded as an explanation; other problems of the general domain are graded by words.
    """
    text = generation["text"]
    if problem.key_points:
        graded = grade_explanation(text, problem.key_points)
    else:
        kind = "text" if problem.domain == "general" else None
        graded = grader(text, problem.answer, problem.aliases, kind=kind)
    return {
        **{name: value for name, value in generation.items() if name in BEHAVIOUR.columns},
        "domain": problem.domain,
        "extracted": graded.extracted,
        "verdict": graded.verdict,
        "rule": graded.rule,
        "operation": judge_operation(text, problem),
        "health": health(text, generation["stop_reason"]).flags,
    }


def examine(generation: dict[str, Any]) -> dict[str, Any]:
    """Return the health table's row for a generations table's row."""
    which = {key: generation[key] for key in HEALTH.keys}
    return {**which, **asdict(health(generation["text"], generation["stop_reason"]))}


def grade_file(path: Path, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Grade a JSONL file of `{"text": …, "gold": …}`, within `seconds` per line; raises UsageError.

    A line may have `aliases` and `kind` (see `grade`) or, for an explanation, `key_points` in place of the gold.
    """
    verdicts = []
    with GradingWorker(seconds) as worker:
        for number, line in tqdm(list(read_lines(path)), desc="answers", leave=False, disable=None):
            text, gold, given = line.get("text"), line.get("gold"), line.get("key_points")
            points = [point for point in given if isinstance(point, list)] if isinstance(given, list) else []
            if isinstance(text, str) and points:
                verdicts.append(asdict(grade_explanation(text, [list(map(str, wordings)) for wordings in points])))
                continue
            aliases, kind = line.get("aliases", []), line.get("kind")
            if not isinstance(text, str) or not isinstance(gold, str) or not isinstance(aliases, list):
                keys = ", ".join(map(visible, list(line)[:10])) or "nothing"
                raise UsageError(f'{path}, line {number}: got {keys}, expected {{"text": …, "gold": …}}')
            if kind not in (None, *get_args(Kind)):
                expected = ", ".join(get_args(Kind))
                raise UsageError(f"{path}, line {number}: got kind {repr(kind)[:100]}, expected one of {expected}")
            verdicts.append(asdict(worker.grade(text, gold, [str(alias) for alias in aliases], kind)))
    return verdicts
