"""Each flag on a text that deserves it, and none on a sound one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.behaviour.health import health
from crosspatch.config import Data
from crosspatch.data.splits import make_splits

SOUND = "### Step 1: Divide\n\n$$\nx \\neq 0, \\nu \\not= \\nabla f \\\\ n = 3\n$$\n\n**Answer:** $\\boxed{x = 3}$"


def test_a_sound_text_has_no_flag() -> None:
    assert health(SOUND, "eos") == []
    for problem in make_splits(Data(train=6, validation=6, related=0), seed=1).train:
        assert problem.solution is not None
        assert health(problem.solution, "eos") == []


def test_a_text_that_was_cut_off_has_no_end() -> None:
    assert health(SOUND, "limit") == ["no_eos"]


@pytest.mark.parametrize(
    "loop",
    [
        "Step 4: x = 5\n",
        "abcd",
        "ha ",
        "x",
        "a sentence that is longer than sixty characters in all, so there.\n",
    ],
)
def test_a_loop_at_the_end_is_repetition(loop: str) -> None:
    rounds = max(4, 80 // len(loop))
    assert health(SOUND + loop * rounds, "eos") == ["repetition"]
    assert health(SOUND + loop * rounds + loop[: len(loop) // 2], "eos") == ["repetition"]
    assert health(SOUND + loop * rounds + " and then it ended well", "eos") == []


def test_two_rounds_or_a_short_loop_are_no_repetition() -> None:
    assert health("a sentence that is longer than thirty characters. " * 2, "eos") == []
    assert health("abcd " * 11, "eos") == []
    assert health("abcd " * 12, "eos") == ["repetition"]


@pytest.mark.parametrize("planted", [r"\n", r"\n\n", r"\nStep 2", r"\nuse", r"\\\frac", "\\" * 5])
def test_escaped_newlines_are_noticed(planted: str) -> None:
    assert health(f"Step 1: done.{planted} and on", "eos") == ["escaped_newlines"]


def test_flags_add_up_in_their_order() -> None:
    assert health(r"again\n" * 20, "limit") == ["no_eos", "repetition", "escaped_newlines"]


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    assert set(health(text, "eos")) <= {"repetition", "escaped_newlines"}
