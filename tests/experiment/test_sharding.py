"""Shards of a stage: all are done, each once; what fails is tried again and stops no other."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment.executors import carry_out
from crosspatch.experiment.patching import cut_sweep
from crosspatch.experiment.run_context import RunContext
from crosspatch.experiment.sharding import prepare, shards_of, work_off, work_off_slice
from crosspatch.settings_io import make_experiment
from crosspatch.storage.run import RunDirectory


@dataclass
class Letters:
    """A stage without models: shard i leaves a file with the i-th letter, or raises what it is told to."""

    name: ClassVar[str] = "patch"
    work: RunContext
    raising: dict[int, list[BaseException]] = field(default_factory=dict)
    calls: Counter = field(default_factory=Counter)
    gathered: int = 0

    def plan(self):
        return {"shards": [{"prompts": [letter]} for letter in "abcde"]}

    def do(self, shard):
        self.calls[shard] += 1
        if self.raising.get(shard):
            raise self.raising[shard].pop(0)
        return {f"scores/part-{shard:05d}.parquet": "abcde"[shard].encode()}

    def gather(self):
        self.gathered += 1


@pytest.fixture
def stage(tmp_path) -> Letters:
    experiment = make_experiment({}, ())
    return Letters(RunContext(experiment, RunDirectory.start(tmp_path / "run", experiment)))


def contents(stage) -> list[str]:
    return [path.read_text() for path in sorted((stage.work.directory.root / "scores").iterdir())]


def test_all_are_done_once_and_gathered(stage):
    carry_out(stage)
    assert contents(stage) == list("abcde")
    assert set(stage.calls.values()) == {1}
    carry_out(stage)
    assert set(stage.calls.values()) == {1}
    assert stage.gathered == 2


def test_a_shard_that_fails_is_tried_again_and_stops_no_other(stage):
    stage.raising = {1: [ValueError("once")], 3: [ValueError("once"), MemoryError("twice")]}
    carry_out(stage)
    assert contents(stage) == list("abcde")
    assert stage.calls == {0: 1, 1: 2, 2: 1, 3: 3, 4: 1}


def test_one_that_always_fails_is_left_with_its_error_while_the_others_finish(stage):
    stage.raising = {1: [ValueError("no\nway")] * 9}
    with pytest.raises(CrosspatchError, match="1 of 5 shards failed, 3 tries each; shard 1: ValueError: no way"):
        carry_out(stage)
    assert stage.calls == {0: 1, 1: 3, 2: 1, 3: 1, 4: 1}
    shards = shards_of(stage)
    assert shards.left() == [1]
    assert shards.failure(1) == {"tries": 3, "error": "ValueError: no way"}
    assert stage.gathered == 0
    # The same command tries it again.
    stage.raising = {}
    carry_out(stage)
    assert contents(stage) == list("abcde")
    assert stage.calls == {0: 1, 1: 4, 2: 1, 3: 1, 4: 1}


@pytest.mark.parametrize(
    "error", [UsageError("no such layer"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_what_is_no_shards_fault_stops_all_and_counts_for_none(stage, error):
    stage.raising = {1: [error]}
    with pytest.raises(type(error)):
        carry_out(stage)
    assert stage.calls == {0: 1, 1: 1}
    shards = shards_of(stage)
    assert shards.left() == [1, 2, 3, 4]
    carry_out(stage)
    assert contents(stage) == list("abcde")


def test_what_another_process_is_at_is_left_to_it(stage):
    shards = prepare(stage)
    with shards.claim(2):
        work_off(stage, range(5), tries=3)
    assert shards.left() == [2]


def test_slices_share_the_work(stage):
    shards = prepare(stage)
    for number, done in ((1, {0, 2, 4}), (2, {0, 1, 2, 3, 4})):
        work_off_slice(stage, number, 2)
        assert set(range(5)) - set(shards.left()) == done
    stage.raising = {0: [ValueError("x")] * 9}
    shards.forget(0)
    with pytest.raises(CrosspatchError, match="shard 0: ValueError: x"):
        work_off_slice(stage, 1, 2)
    work_off_slice(stage, 2, 2)


def test_a_damaged_file_is_said_and_made_again(stage, caplog):
    carry_out(stage)
    path = stage.work.directory.root / "scores/part-00003.parquet"
    path.write_text("x")
    carry_out(stage)
    assert contents(stage) == list("abcde")
    assert stage.calls == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1}
    assert any("part-00003.parquet is not as it was written; it is made again" in line for line in caplog.messages)


@settings(deadline=None)
@given(
    prompts=st.integers(1, 9),
    directions=st.sampled_from([("corrupt",), ("corrupt", "repair")]),
    patches=st.integers(1, 40),
    rows=st.integers(1, 64),
)
def test_a_sweep_is_cut_into_shards_that_hold_every_row_once_and_in_order(prompts, directions, patches, rows):
    names = [f"p{i}" for i in range(prompts)]
    found = []
    for entry in cut_sweep(names, directions, patches, rows):
        first, last = entry["patches"]
        assert len(entry["prompts"]) * (last - first) <= max(rows, 1)
        found += [(p, d, k) for p in entry["prompts"] for d in entry["directions"] for k in range(first, last)]
    assert found == [(p, d, k) for p in names for d in directions for k in range(patches)]
