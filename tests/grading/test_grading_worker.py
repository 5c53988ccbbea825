"""Grading in a separate process: the same grades, and answers that hang are ended."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.grading.grading import Grade, grade
from crosspatch.grading.grading_worker import GradingWorker

# Without the bound on what is evaluated this asks for 9 to the power of 9^387420489.
HANGS = r"\boxed{9^{9^{9^9}}}"
UNBOUNDED = """
from crosspatch.grading import grading_worker, math_expression
math_expression._harmless = bool
grading_worker.serve()
"""
ANSWERS = [
    (r"\boxed{x = 3 \text{ or } x = 2}", r"x = 2 \text{ or } x = 3"),
    ("Answer: x = 8", "x = 7"),
    ("I don't know\ud800", "x = 7"),
    ("50.27\u2028", r"16\pi"),
    ("", "Paris"),
]


def test_it_grades_as_without_a_worker_and_starts_again_after_it_was_closed() -> None:
    worker = GradingWorker()
    assert [worker.grade(*answer) for answer in ANSWERS] == [grade(*answer) for answer in ANSWERS]
    worker.close()
    with worker:
        assert worker.grade("seven", "7", ["seven"], kind="text") == Grade("correct", "seven")
    worker.close()


def test_what_hangs_is_ended_and_each_thread_gets_the_grade_of_its_answer() -> None:
    with GradingWorker(2.0, [sys.executable, "-c", UNBOUNDED]) as worker, ThreadPoolExecutor(3) as threads:
        texts = [r"\boxed{5}", HANGS, r"\boxed{6}", r"\boxed{7}", r"\boxed{5}"]
        verdicts = list(threads.map(lambda text: worker.grade(text, "x = 5").verdict, texts))
    assert verdicts == ["correct", "unparsed", "incorrect", "incorrect", "correct"]
    # The control: bounded, the same text is refused at once, with no need of the limit.
    assert grade(HANGS, "x = 5") == Grade("unparsed", None)


def test_a_script_needs_no_guard() -> None:
    script = """
from crosspatch.grading.grading_worker import GradingWorker
print(GradingWorker().grade("Answer: 7", "x = 7").verdict)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("correct\n", "")


def test_a_worker_that_the_system_kills_leaves_the_answer_unparsed() -> None:
    kills_itself = "import os, signal; print('up', flush=True); input(); os.kill(os.getpid(), signal.SIGKILL)"
    with GradingWorker(command=[sys.executable, "-c", kills_itself]) as worker:
        assert worker.grade("Answer: 7", "x = 7") == Grade("unparsed", None)


def test_a_worker_that_fails_is_no_verdict() -> None:
    with pytest.raises(CrosspatchError, match="did not start"):
        GradingWorker(command=[sys.executable, "-c", "pass"]).grade("Answer: 7", "x = 7")
    fails = "print('up', flush=True); input(); raise SystemExit(3)"
    with pytest.raises(CrosspatchError, match="exit code 3"):
        GradingWorker(command=[sys.executable, "-c", fails]).grade("Answer: 7", "x = 7")


def test_no_time_is_no_limit() -> None:
    with pytest.raises(UsageError, match="more than 0"):
        GradingWorker(0)
