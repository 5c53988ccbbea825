"""Everything that can be said of one generated text: its grade, the operation it used, its health."""

from __future__ import annotations

from typing import Any

from crosspatch.behaviour.grading import grade
from crosspatch.behaviour.health import health
from crosspatch.behaviour.operations import judge_operation
from crosspatch.data.problem import Problem


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
        "health": health(text, generation["stop_reason"]),
    }
