"""How many answers are graded a second, on one core: those that the tests hold, in this process and by a worker.

Nothing is graded twice in a process, so that no answer is cheap because it was read before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crosspatch.data.lines import read_lines
from crosspatch.grading.grading import grade
from crosspatch.grading.grading_worker import GradingWorker

TABLE = Path(__file__).parent.parent / "tests" / "grading" / "graded_answers.jsonl"


def answers_graded() -> list[tuple[str, str]]:
    """Rows of the table; key points, which take microseconds, are left out."""
    pairs = [pair for _, pair in read_lines(TABLE) if "gold" in pair]
    by_models = [pair for pair in pairs if pair["source"] == "model"]
    with GradingWorker() as worker:
        worker.grade("1", "1")  # its start, half a second, is no grading
        in_worker = [_rate(by_models, worker.grade), _rate([p for p in pairs if p not in by_models], worker.grade)]
    here = [_rate(by_models, grade), _rate([p for p in pairs if p not in by_models], grade)]
    return [
        ("answers of models graded, in one process", here[0]),
        ("… by a worker with a time limit", in_worker[0]),
        ("answers written to be hard, in one process", here[1]),
        ("… by a worker with a time limit", in_worker[1]),
    ]


def _rate(pairs: list[dict[str, Any]], grader: Callable[..., object]) -> str:
    slowest, start = 0.0, time.perf_counter()
    for pair in pairs:
        begun = time.perf_counter()
        grader(pair["text"], pair["gold"], pair.get("aliases", ()), pair.get("kind"))
        slowest = max(slowest, time.perf_counter() - begun)
    seconds = time.perf_counter() - start
    return f"{len(pairs)} in {seconds:.1f} s, {len(pairs) / seconds:,.0f} a second; the slowest {1000 * slowest:.0f} ms"


if __name__ == "__main__":
    for what, value in answers_graded():
        print(f"{what}: {value}")
