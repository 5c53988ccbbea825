"""Schedules: their text, and the steps at which they apply, by both engines."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.errors import UsageError
from crosspatch.patching.patches import Patch, Schedule
from crosspatch.patching.trajectory import PatchRun
from engines import both, gap
from pairs import QUESTIONS, architecture_pair

TEXTS = ["all", "steps:2-4", "steps:3-", "every:3", "disagree", "tokens:digits", "tokens:operators", "tokens:add,x"]
STEPS = 8
# A good part of what the tiny models say.
WORDS = "tokens:we,sides,operators,v"


def text_of(token: int) -> str:
    return ["7", " x ", "add", "Add", "+", "\\frac", "word", "x2", ""][token]


@pytest.mark.parametrize("text", TEXTS)
def test_a_schedule_is_read_as_it_is_written(text):
    assert Schedule.parse(text).name == text
    assert Schedule.parse(f" {text} ") == Schedule.parse(text)
    named = "L1.head.2+L3.resid_post" + ("" if text == "all" else f"@{text}")
    assert Patch.parse(named).name == named
    assert Patch.parse(named).schedule == Schedule.parse(text)


WORD = st.text(st.characters(exclude_characters=",", categories=["L", "N", "S"]), min_size=1)


@given(
    st.fixed_dictionaries({"first": st.integers(0, 99), "last": st.integers(99, 999) | st.none()})
    | st.fixed_dictionaries({"every": st.integers(1, 99)})
    | st.just({"disagree": True})
    | st.fixed_dictionaries({"words": st.lists(WORD, min_size=1).map(tuple)})
)
def test_its_name_is_read_back(fields):
    schedule = Schedule(**fields)
    assert Schedule.parse(schedule.name) == schedule
    assert Patch.parse(f"L0.resid_post@{schedule.name}").schedule == schedule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "all:1",
        "steps",
        "steps:",
        "steps:4-2",
        "steps:-3",
        "steps:a-b",
        "steps:1-2-3",
        "every:0",
        "every:-1",
        "every:x",
        "disagree:1",
        "tokens:",
        "tokens: , ",
        "ALL",
    ],
)
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match="got the schedule") as refused:
        Schedule.parse(text)
    assert "\n" not in str(refused.value)
    assert "steps:10-40" in str(refused.value)


def applied(text: str, wants=(0, 0), steps=range(8)) -> list[int]:
    return [step for step in steps if Schedule.parse(text).applies(step, *wants, text_of)]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("L18.head.3@every:2", ("head", 18, 3, "every:2", 1)),
        ("L17.resid_post+L18.resid_post", ("resid_post", None, None, "all", 2)),
        ("L17.attn_out+L17.mlp_out", ("attn_out+mlp_out", 17, None, "all", 1)),
        ("L2.head.0+L2.head.1", ("head", 2, None, "all", 1)),
    ],
)
def test_a_patch_stands_in_columns(name, columns):
    assert tuple(Patch.parse(name).columns.values()) == (name, *columns)


def test_by_hand():
    assert applied("all") == list(range(8))
    assert applied("steps:2-4") == [2, 3, 4]
    assert applied("steps:5-") == [5, 6, 7]
    assert applied("every:3") == [0, 3, 6]
    assert applied("disagree", (0, 0)) == []
    assert applied("disagree", (0, 1)) == list(range(8))


@pytest.mark.parametrize(
    ("text", "counting"),
    [("tokens:digits", {0, 7}), ("tokens:operators", {4, 5}), ("tokens:add,x", {1, 2, 3}), ("tokens:7,+", {0, 4})],
)
def test_tokens_count_by_their_text(text, counting):
    """Of either model; spaces and case do not matter."""
    assert {token for token in range(9) if applied(text, (token, 6))} == counting
    assert {token for token in range(9) if applied(text, (6, token))} == counting


def steps_of(frame: pl.DataFrame) -> set[int]:
    return set(frame.filter(pl.col("status") != "unscheduled")["step"])


@pytest.mark.parametrize("persistence", ["transient", "persistent"])
@pytest.mark.parametrize("text", ["steps:2-4", "every:3", "disagree", "tokens:digits", WORDS])
def test_engine_is_reference(text, persistence):
    pair = architecture_pair("gpt2")
    schedule = Schedule.parse(text)
    # Beside one that never rests: rows of a text need not all be computed at a step.
    patches = [
        Patch.parse(f"L1.resid_post@{text}"),
        Patch.parse("L1.resid_post"),
        Patch.parse(f"L0.head.1+L2.mlp_out@{text}"),
        Patch.parse("L3.resid_post@steps:100-"),
    ]
    fast, slow = both(pair, QUESTIONS, patches, PatchRun("corrupt", persistence, STEPS))
    assert gap(fast, slow).close
    scheduled = fast.filter(pl.col("patch").is_in([patches[0].name, patches[2].name]))
    resting = scheduled.filter(pl.col("status") == "unscheduled")
    assert 0 < resting.height < scheduled.height
    assert resting["cts"].null_count() == resting.height
    for row in scheduled.iter_rows(named=True):
        wants = row["clean_token_id"], row["corrupted_token_id"]
        assert (row["status"] != "unscheduled") == schedule.applies(row["step"], *wants, pair.prompts.token_text)
    # A transient patch that rests is the target itself; a persistent one has its past.
    itself = (resting["kl_patched"] - resting["kl_clean"]).abs() < 1e-5
    if persistence == "transient":
        assert itself.all()
    else:
        assert (~itself).any()
    never = fast.filter(pl.col("patch") == patches[3].name)
    assert (never["status"] == "unscheduled").all()
    assert (never["token_id"] == never["clean_token_id"]).all()


def test_a_schedule_is_about_generated_steps_and_not_positions():
    pair = architecture_pair("qwen3")
    fast, slow = both(pair, QUESTIONS[:2], [Patch.parse("L2.resid_post@steps:1-2")], PatchRun(max_new_tokens=4))
    assert gap(fast, slow).close
    assert steps_of(fast) == {1, 2}
    assert fast["position"].n_unique() > 4
