"""Schedules: their names, and the steps at which they apply, by both engines."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.errors import UsageError
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch, Schedule
from crosspatch.patching.trajectory import PatchRun
from engines import both, gap
from pairs import QUESTIONS, architecture_pair

STEPS = 8
# Half of the tokens that the tiny models write.
WORDS = "tokens:we,sides,operators,v"
WORD = st.text(st.characters(exclude_characters=",", categories=["L", "N", "S"]), min_size=1)


@given(
    st.fixed_dictionaries({"first": st.integers(0, 99), "last": st.integers(99, 999) | st.none()})
    | st.fixed_dictionaries({"every": st.integers(1, 99)})
    | st.just({"disagree": True})
    | st.fixed_dictionaries({"words": st.lists(WORD, min_size=1).map(tuple)})
)
def test_a_name_is_read_back(fields):
    schedule = Schedule(**fields)
    assert Schedule.parse(schedule.name) == Schedule.parse(f" {schedule.name} ") == schedule
    patch = Patch((Site(1, "head", 2), Site(3)), schedule)
    assert Patch.parse(patch.name) == patch
    assert Patch.parse(f"L3.resid_post + L1.head.2@{schedule.name}") == patch


@pytest.mark.parametrize(
    "text",
    [
        *("", "none", "ALL", "all:1", "disagree:1", "tokens:", "tokens: , ", "every:0", "every:-1", "every:x"),
        *("steps", "steps:", "steps:4-2", "steps:-3", "steps:a-b", "steps:1-2-3"),
    ],
)
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match="got the schedule") as refused:
        Schedule.parse(text)
    assert "\n" not in str(refused.value)
    assert "steps:10-40" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "columns", "entry"),
    [
        ("L18.head.3@every:2", ("head", 18, 3, "every:2", 1), 18),
        ("L17.resid_post+L18.resid_post", ("resid_post", None, None, "all", 2), 18),
        ("L17.attn_out+L17.mlp_out", ("attn_out+mlp_out", 17, None, "all", 1), 17),
        ("L2.head.0+L2.head.1", ("head", 2, None, "all", 1), 2),
        ("L1.resid_post+L3.attn_out", ("attn_out+resid_post", None, None, "all", 2), 2),
    ],
)
def test_a_patch_has_columns_and_an_entry(name, columns, entry):
    patch = Patch.parse(name)
    assert tuple(patch.columns.values()) == (name, *columns)
    assert patch.entry == entry
    with pytest.raises(UsageError, match="names a site twice"):
        Patch.parse("L1.resid_post+L1.resid_post")


def applied(text: str, tokens=(0, 0)) -> list[int]:
    texts = ["7", " x ", "add", "Add", "+", "\\frac", "word", "x2", ""]
    return [step for step in range(8) if Schedule.parse(text).applies(step, *tokens, texts.__getitem__)]


def test_by_hand():
    assert applied("all") == list(range(8))
    assert applied("steps:2-4") == [2, 3, 4]
    assert applied("steps:5-") == [5, 6, 7]
    assert applied("every:3") == [0, 3, 6]
    for text in ("steps:2-4", "steps:3-", "every:3", "disagree", "tokens:add,x"):
        assert Schedule.parse(text).name == text
    assert applied("disagree", (0, 0)) == []
    assert applied("disagree", (0, 1)) == list(range(8))
    # Tokens of either model count by their text; spaces and case do not matter.
    for text, counting in (("digits", {0, 7}), ("operators", {4, 5}), ("add,x", {1, 2, 3}), ("7,+", {0, 4})):
        assert {token for token in range(9) if applied(f"tokens:{text}", (token, 6))} == counting
        assert {token for token in range(9) if applied(f"tokens:{text}", (6, token))} == counting


@pytest.mark.parametrize("persistence", ["transient", "persistent"])
def test_engine_is_reference(persistence):
    """All schedules at once: rows of a text need not all be computed at a step."""
    pair = architecture_pair("gpt2")
    schedules = [Schedule.parse(text) for text in ("steps:2-4", "every:3", "disagree", "tokens:digits", WORDS)]
    sites = [Patch.parse(name).sites for name in ("L1.resid_post", "L0.head.1+L2.mlp_out")]
    always, never = Patch.parse("L1.resid_post"), Patch.parse("L3.resid_post@steps:100-")
    patches = [always, never, *(Patch(some, schedule) for schedule in schedules for some in sites)]
    fast, slow = both(pair, QUESTIONS, patches, PatchRun("corrupt", persistence, STEPS))
    assert gap(fast, slow).close
    assert fast["position"].n_unique() > STEPS
    for schedule in schedules:
        scheduled = fast.filter(schedule=schedule.name)
        idle = scheduled.filter(status="unscheduled")
        assert 0 < idle.height < scheduled.height
        assert idle["cts"].null_count() == idle.height
        for row in scheduled.iter_rows(named=True):
            tokens = row["clean_token_id"], row["corrupted_token_id"]
            assert (row["status"] != "unscheduled") == schedule.applies(row["step"], *tokens, pair.prompts.token_text)
        # An idle transient patch leaves the target as it is; a persistent one keeps its past.
        itself = (idle["kl_patched"] - idle["kl_clean"]).abs() < 1e-5
        assert itself.all() if persistence == "transient" else (~itself).any()
    unscheduled = fast.filter(pl.col("status") == "unscheduled", patch=never.name)
    assert unscheduled.height == fast.filter(patch=never.name).height
    assert (unscheduled["token_id"] == unscheduled["clean_token_id"]).all()
