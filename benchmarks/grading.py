"""How many answers are graded a second, on one core: those that the tests hold, in this process and by a worker.

Nothing is graded twice in a process, so that no answer is cheap because it was read before. Hostile answers are graded
by a worker alone, which ends at its limit of time what this process could not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crosspatch.data.lines import read_lines
from crosspatch.grading.grading import grade
from crosspatch.grading.grading_worker import SECONDS, GradingWorker

TABLE = Path(__file__).parent.parent / "tests" / "grading" / "graded_answers.jsonl"
HOSTILE = {
    "10,000 brackets": "(" * 10_000 + "1" + ")" * 10_000,
    "10,000 opening brackets": "(" * 10_000,
    r"10,000 nested \frac": r"\frac{1}{" * 10_000 + "1" + "}" * 10_000,
    r"200 nested \frac": r"\frac{1}{1 + " * 200 + "1" + "}" * 200,
    r"200 nested \sqrt": r"\sqrt{1 + " * 200 + "1" + "}" * 200,
    "9^{9^{9^9}}": "9^{9^{9^9}}",
    "2^{10^9}": "2^{10^9}",
    "10^{-10^9} + 1": "10^{-10^9} + 1",
    "100!!!": "100!!!",
    "(10^6)!": "(10^6)!",
    r"\binom{10^8}{10^7}": r"\binom{10^8}{10^7}",
    "(x + y + z)^{300}": "(x + y + z)^{300}",
    "a chain of 300 powers": "^".join(["x"] * 300),
    "a number of 100,000 digits": "7" * 100_000,
    "a line of 100,000 letters": "a" * 100_000,
    "100,000 spaces": f"1{' ' * 100_000}2",
    "1,000 boxes": r"1} \boxed{" * 1_000 + "1",
    r"1,000 nested \boxed": r"\boxed{" * 1_000 + "1" + "}" * 1_000,
    "a sum of 1,000 fractions": " + ".join(rf"\frac{{1}}{{{n}}}" for n in range(1, 1_001)),
    "a sum of 1,000 powers": " + ".join(f"x^{{{n}}}" for n in range(1_000)),
    "a sum of 300 roots": " + ".join(rf"\sqrt{{{n}}}" for n in range(2, 302)),
    "a product of 300 sums": "".join(f"(x + {n})" for n in range(300)),
    "a list of 1,000 numbers": ", ".join(map(str, range(1_000))),
    "a set of 300 intervals": r" \cup ".join(f"({n}, {n + 0.5})" for n in range(300)),
    "a matrix of 500 cells": r"\begin{pmatrix}" + r" \\ ".join([" & ".join("x" * 25)] * 20) + r"\end{pmatrix}",
    "an integral": r"\int_0^1 x^{x^x} \sin(e^{x^2}) dx",
    "a sum to infinity": r"\sum_{n=1}^{\infty} \frac{\sin(n^n)}{n!}",
    "an equation of degree 50": "x^{50} + 3x^{49} + 7x^{31} + x + 1 = 0",
    "10,000 dollar signs": "$" * 10_000,
    "NUL and a lone surrogate": "\0\ud800" * 1_000,
}  # fmt: skip


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
    taken = [
        _seconds(lambda p=pair: grader(p["text"], p["gold"], p.get("aliases", ()), p.get("kind"))) for pair in pairs
    ]
    median, slowest = statistics.median(taken), max(taken)
    return (
        f"{len(pairs)} in {sum(taken):.1f} s, {len(pairs) / sum(taken):,.0f} a second; the median answer "
        f"{1000 * median:.1f} ms ({1 / median:,.0f} a second), the slowest {1000 * slowest:.0f} ms"
    )


def hostile_graded() -> list[tuple[str, str]]:
    """Each hostile answer in a box and without one, against a short gold and against itself: the longest of four."""
    longest = {}
    with GradingWorker() as worker:
        for name, answer in HOSTILE.items():
            for text in (rf"The answer is \boxed{{{answer}}}.", f"Answer: ${answer}$"):
                for gold in ("x + 1", answer):
                    worker.grade("1", "1")  # starts the worker again if it was ended
                    seconds = _seconds(lambda t=text, g=gold: worker.grade(t, g, kind="math"))
                    longest[name] = max(seconds, longest.get(name, 0))
    name = max(longest, key=longest.__getitem__)
    ended = sum(seconds >= SECONDS for seconds in longest.values())
    return [
        *((f"hostile: {what}", f"{1000 * seconds:,.0f} ms") for what, seconds in longest.items()),
        (
            "hostile answers by a worker, the worst",
            f"{longest[name]:.2f} s ({name}), limit {SECONDS:g} s; {ended} of {len(longest)} were ended there",
        ),
    ]


def _seconds(graded: Callable[[], object]) -> float:
    start = time.perf_counter()
    graded()
    return time.perf_counter() - start


if __name__ == "__main__":
    for what, value in [*answers_graded(), *hostile_graded()]:
        print(f"{what}: {value}")
