"""Single values: what is read of them, and in which threads."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sympy

from crosspatch.grading.math_expression import parse, same_value


@pytest.mark.parametrize(
    "latex", ["", "9^{9^{9^9}}", "x^{1234}", "2 3", "99!", r"\frac{1}{", "1" * 31, "1/0", "apples"]
)
def test_what_is_no_value_or_not_safe_is_not_read(latex: str) -> None:
    assert parse(latex) is None


def test_a_value_is_read_exactly() -> None:
    assert parse("-3/6") == sympy.Rational(-1, 2)
    assert str(parse("x^{123}")) == "x**123"


def test_a_decimal_may_round_only_what_no_decimal_can_say() -> None:
    assert same_value(parse(r"\frac{1}{3}"), parse("0.333"))
    assert not same_value(parse(r"\frac{1}{3}"), parse("0.33"))
    assert same_value(parse("3/2"), parse("1.5"))
    assert not same_value(parse("3/2"), parse("1.501"))


def test_it_works_off_the_main_thread_and_says_nothing() -> None:
    # A process of its own: math-verify warns once a process, and pytest takes what is logged.
    program = """if True:
        import threading
        from crosspatch.grading.grading import grade
        gold = r"\\frac{x^7}{7} + 3x + C"
        def run():
            for text in (r"\\boxed{3x + x^7/7 + C}", r"\\boxed{(2, 3)}", r"\\boxed{x^7 +}"):
                print(grade(text, gold).verdict, grade(text, "(2,3)").verdict)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["correct", "incorrect", "incorrect", "correct", "unparsed", "unparsed"]
    assert done.stderr == ""
