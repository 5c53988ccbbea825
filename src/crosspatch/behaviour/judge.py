"""Verdicts on texts: all that is said of one generation, and the grades of a file of answers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from crosspatch.behaviour.grading import grade
from crosspatch.behaviour.health import health
from crosspatch.behaviour.operations import judge_operation
from crosspatch.data.json_lines import read_lines
from crosspatch.data.problem import Problem
from crosspatch.errors import UsageError


def judge(problem: Problem, generation: dict[str, Any]) -> dict[str, Any]:
    """A row of the behaviour table for a row of the generations table; the problem must have an answer."""
    text = generation["text"]
    graded = grade(text, problem.answer, problem.aliases, kind="text" if problem.domain == "general" else None)
    return {
        "prompt_id": problem.id,
        "domain": problem.domain,
        "condition": generation["condition"],
        "patch": generation["patch"],
        "extracted": graded.extracted,
        "verdict": graded.verdict,
        "operation": judge_operation(text, problem),
        "health": health(text, generation["stop_reason"]).flags,
    }


def examine(generation: dict[str, Any]) -> dict[str, Any]:
    """A row of the health table for a row of the generations table."""
    which = {key: generation[key] for key in ("prompt_id", "condition", "patch")}
    return {**which, **asdict(health(generation["text"], generation["stop_reason"]))}


def grade_file(path: Path) -> list[dict[str, Any]]:
    """The verdicts on a JSONL file of `{"text": …, "gold": …}`, `aliases` if there are any; raises UsageError."""
    verdicts = []
    for number, line in read_lines(path):
        text, gold, aliases = line.get("text"), line.get("gold"), line.get("aliases", [])
        if not isinstance(text, str) or not isinstance(gold, str) or not isinstance(aliases, list):
            raise UsageError(
                f'{path}, line {number}: got {", ".join(line) or "nothing"}, expected {{"text": …, "gold": …}}'
            )
        verdicts.append(asdict(grade(text, gold, [str(alias) for alias in aliases])))
    return verdicts
