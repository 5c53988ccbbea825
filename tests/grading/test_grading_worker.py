"""Grading in a separate process: the same grades, and answers that hang are ended."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.grading.grading import Grade, grade
from crosspatch.grading.grading_worker import GradingWorker

# Without the bound on what is parsed this computes a number of ten million digits.
HANGS = r"\boxed{\binom{40000000}{20000000}}"
UNBOUNDED = """
from crosspatch.grading import grading_worker, math_answer
math_answer._harmless = bool
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
        assert worker.grade("seven", "7", ["seven"], kind="text") == Grade("correct", "seven", "words")
    worker.close()


def test_what_hangs_is_ended_and_each_thread_gets_the_grade_of_its_answer() -> None:
    with GradingWorker(2.0, [sys.executable, "-c", UNBOUNDED]) as worker, ThreadPoolExecutor(3) as threads:
        texts = [r"\boxed{5}", HANGS, r"\boxed{6}", r"\boxed{7}", r"\boxed{5}"]
        verdicts = list(threads.map(lambda text: worker.grade(text, "x = 5").verdict, texts))
    assert verdicts == ["correct", "unparsed", "incorrect", "incorrect", "correct"]
    # The control: bounded, the same text is refused at once, with no need of the limit.
    assert grade(HANGS, "x = 5") == Grade("unparsed", None, "no final answer found")


def test_a_script_needs_no_guard_and_nothing_else_is_printed() -> None:
    # In a new process: math-verify warns once a process, and pytest captures what is logged.
    script = """if True:
        import threading
        from crosspatch.grading.grading import grade
        from crosspatch.grading.grading_worker import GradingWorker
        gold = r"\\frac{x^7}{7} + 3x + C"
        def run():
            for text in (r"\\boxed{3x + x^7/7 + C}", r"\\boxed{(2, 3)}", r"\\boxed{x^7 +}"):
                print(grade(text, gold).verdict, grade(text, "(2,3)").verdict)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        print(GradingWorker().grade("Answer: 7", "x = 7").verdict)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    off_the_main_thread = ["correct", "incorrect", "incorrect", "correct", "unparsed", "unparsed"]
    assert (done.stdout.split(), done.stderr) == ([*off_the_main_thread, "correct"], "")


def test_a_worker_that_is_killed_leaves_the_answer_unparsed_and_one_that_fails_is_no_verdict() -> None:
    kills_itself = "import os, signal; print('up', flush=True); input(); os.kill(os.getpid(), signal.SIGKILL)"
    with GradingWorker(command=[sys.executable, "-c", kills_itself]) as worker:
        assert worker.grade("Answer: 7", "x = 7") == Grade("unparsed", None, "time limit")
    fails = "print('up', flush=True); input(); raise SystemExit(3)"
    for program, words in (("pass", "did not start"), (fails, "exit code 3")):
        with pytest.raises(CrosspatchError, match=words):
            GradingWorker(command=[sys.executable, "-c", program]).grade("Answer: 7", "x = 7")
    with pytest.raises(UsageError, match="more than 0"):
        GradingWorker(0)
