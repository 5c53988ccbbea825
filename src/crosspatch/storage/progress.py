"""The progress of a run: the states of its stages and their shards, time per shard, and remaining time."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from crosspatch.storage.run import RunDirectory
from crosspatch.storage.shards import Shards

# The time per shard is the mean over this many latest shards.
_LATEST = 50


@dataclass(frozen=True)
class Failure:
    """A failed shard: the number of failed attempts and the last error."""

    shard: int
    tries: int
    error: str


@dataclass(frozen=True)
class StageProgress:
    """One stage: its state in run.json, and the number of its shards in each state (0 for a stage without shards).

    `seconds` is the mean time of the latest shards. `seconds_left` is the estimated remaining time with the running
    workers (with one worker if none is running); None if no shard is done yet or all are. `damaged` describes damaged
    files.
    """

    stage: str
    state: str
    done: int
    running: int
    failed: int
    waiting: int
    seconds: float | None
    seconds_left: float | None
    workers: tuple[str, ...]
    failures: tuple[Failure, ...]
    damaged: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict, for JSON."""
        return asdict(self)


def progress(run: RunDirectory) -> list[StageProgress]:
    """Return the progress of all stages: started stages first, then stages that only have a plan."""
    states = {name: str(stage.get("state", "")) for name, stage in run.record()["stages"].items()}
    planned = sorted(path.parent.name for path in (run.root / "shards").glob("*/plan.json"))
    names = [*states, *(name for name in planned if name not in states)]
    return [_of_stage(Shards(run.root, name), states.get(name, "waiting")) for name in names]


def _of_stage(shards: Shards, state: str) -> StageProgress:
    of_shard = {shard: shards.state(shard) for shard in range(len(shards))}
    count = Counter(of_shard.values())
    done = [shard for shard, now in of_shard.items() if now == "done"]
    times = [float(shards.record(shard).get("seconds", 0)) for shard in done[-_LATEST:]]
    each = fmean(times) if times else None
    left = len(of_shard) - len(done)
    return StageProgress(
        stage=shards.stage,
        state=state,
        done=count["done"],
        running=count["running"],
        failed=count["failed"],
        waiting=count["waiting"],
        seconds=each,
        seconds_left=None if each is None or not left else each * left / max(1, count["running"]),
        workers=tuple(w for shard, now in of_shard.items() if now == "running" and (w := shards.worker(shard))),
        failures=tuple(
            Failure(shard, shards.tries(shard), str(shards.failure(shard).get("error", "")))
            for shard, now in of_shard.items()
            if now == "failed"
        ),
        damaged=tuple(shards.damaged().values()),
    )
