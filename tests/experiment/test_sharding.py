"""Shards of a stage: all are done, each once; what fails is tried again and stops no other shard."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment.executors import by_this_process, carry_out
from crosspatch.experiment.executors.by_processes import by_processes
from crosspatch.experiment.patching import cut_sweep
from crosspatch.experiment.run_context import RunContext
from crosspatch.experiment.sharding import KILLED, WorkersLost, prepare, work_off_slice
from crosspatch.settings_io import make_experiment
from crosspatch.storage.run import RunDirectory
from letters import Letters


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Letters:
    """Its shards are done by this process."""
    monkeypatch.setattr("crosspatch.experiment.executors.executor", lambda _: by_this_process)
    experiment = make_experiment({"execution": {"workers": 2}}, ())
    return Letters(RunContext(experiment, RunDirectory.start(tmp_path / "run", experiment)))


def test_all_are_done_once_and_collected_and_one_that_fails_is_tried_again(stage):
    stage.raising = {1: [ValueError("once")], 3: [ValueError("once"), MemoryError("twice")]}
    for _ in range(2):
        carry_out(stage)
        assert stage.contents == "abcde"
        assert stage.calls == {0: 1, 1: 2, 2: 1, 3: 3, 4: 1}
    assert stage.collected == 2


def test_one_that_always_fails_is_left_with_its_error_while_the_others_finish(stage):
    stage.raising = {1: [ValueError("no\nway")] * 3}
    with pytest.raises(CrosspatchError, match="1 of 5 shards failed, 3 tries each; shard 1: ValueError: no way"):
        carry_out(stage)
    assert (stage.shards.left(), stage.collected) == ([1], 0)
    assert stage.shards.failure(1) == {"tries": 3, "error": "ValueError: no way"}
    # The same command tries it again.
    carry_out(stage)
    assert stage.contents == "abcde"
    assert stage.calls == {0: 1, 1: 4, 2: 1, 3: 1, 4: 1}


@pytest.mark.parametrize(
    "error", [UsageError("no such layer"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_an_error_that_would_stop_every_shard_ends_the_stage_and_is_no_failure(stage, error):
    stage.raising = {1: [error]}
    with pytest.raises(type(error)):
        carry_out(stage)
    assert stage.calls == {0: 1, 1: 1}
    assert stage.shards.left() == [1, 2, 3, 4]
    carry_out(stage)
    assert stage.contents == "abcde"


def test_slices_share_the_work_and_leave_what_another_process_computes(stage):
    prepare(stage)
    with stage.shards.claim(2):
        work_off_slice(stage, 1, 2)
    assert stage.shards.left() == [1, 2, 3]
    for number, left in ((1, [1, 3]), (2, [])):
        work_off_slice(stage, number, 2)
        assert stage.shards.left() == left
    stage.raising = {0: [ValueError("x")] * 9}
    stage.shards.forget(0)
    with pytest.raises(CrosspatchError, match="shard 0: ValueError: x"):
        work_off_slice(stage, 1, 2)
    work_off_slice(stage, 2, 2)


def test_a_worker_that_dies_is_replaced_and_its_shard_tried_again(stage, caplog):
    stage.deadly = (3,)
    prepare(stage)
    by_processes(stage)
    assert stage.contents == "abce"
    assert stage.shards.failure(3) == {"tries": 3, "error": KILLED}
    assert sum("ended with signal 9" in line for line in caplog.messages) == 3
    # What workers log arrives here.
    assert {line for line in caplog.messages if "computing" in line} == {f"computing {i}" for i in (0, 1, 2, 4)}


def test_workers_that_all_die_end_the_stage(stage):
    stage.deadly = tuple(range(5))
    prepare(stage)
    with pytest.raises(WorkersLost, match=r"6 workers died in a row: worker \d+ ended with signal 9"):
        by_processes(stage)


DIRECTIONS = st.sampled_from([("corrupt",), ("corrupt", "repair")])


@given(prompts=st.integers(1, 9), directions=DIRECTIONS, patches=st.integers(1, 40), rows=st.integers(1, 64))
def test_a_sweep_is_cut_into_shards_that_hold_every_row_once_and_in_order(prompts, directions, patches, rows):
    names = [f"p{i}" for i in range(prompts)]
    found, entries = [], list(cut_sweep(names, directions, patches, rows))
    assert len(entries) == 1 or len(entries[0]["prompts"]) == 1
    for entry in entries:
        first, last = entry["patches"]
        assert len(entry["prompts"]) * (last - first) <= max(rows, 1)
        found += [(p, d, k) for p in entry["prompts"] for d in entry["directions"] for k in range(first, last)]
    assert found == [(p, d, k) for p in names for d in directions for k in range(patches)]
