"""Stages whose work is a list of shards: planned once, done by one process or many, gathered when all are done.

What is done, and by whom, stands in the run directory (`storage.shards`), so that whoever dies there is nothing to
tell: the same command goes on with what is left. Executors say who works; nothing here knows what a shard computes.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment.run_context import RunContext
from crosspatch.storage.shards import Shards

logger = logging.getLogger(__name__)


# What is noted before a try, and stays where the process did not live to say more.
NO_RETURN = "it did not come back: the process was killed, perhaps for memory"
# What no other shard could be written under either.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

Files = Mapping[str, bytes]


class ShardedStage(Protocol):
    """A stage that is a list of shards. Made of the experiment and the run directory alone, in every process anew."""

    name: ClassVar[str]
    work: RunContext

    def __init__(self, work: RunContext) -> None: ...

    def plan(self) -> dict[str, Any]:
        """What there is to do: an entry for each shard under `shards`; anything else that has to be fixed for all."""
        ...

    def do(self, shard: int) -> Files:
        """Compute a shard: the files that come of it, by their paths in the run directory. Nothing is written."""
        ...

    def gather(self) -> None:
        """What follows when all shards are done."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What came of a shard: its files, and how it was made."""

    files: Files
    facts: Mapping[str, Any]


class WorkersLost(CrosspatchError):
    """Workers die as they begin, so that no shard can be done."""


# What makes an outcome of a stage's shard.
Compute = Callable[[ShardedStage, int], Outcome]


def shards_of(stage: ShardedStage) -> Shards:
    """A stage's shards in its run directory."""
    return Shards(stage.work.directory.root, stage.name)


def prepare(stage: ShardedStage) -> Shards:
    """The stage's shards: planned, and those done anew whose files are damaged."""
    shards = shards_of(stage)
    if not shards.planned:
        shards.put_plan(stage.plan())
    for shard, wrong in shards.damaged().items():
        logger.warning(f"{stage.name}: {wrong}; it is made again")
        shards.forget(shard)
    return shards


def compute(stage: ShardedStage, shard: int) -> Outcome:
    """Compute one shard, with the seconds that it took and what it was computed with."""
    start = time.monotonic()
    files = stage.do(shard)
    facts = {
        "seconds": round(time.monotonic() - start, 3),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": dict(stage.work.facts),
    }
    return Outcome(files, facts)


def work_off(stage: ShardedStage, some: Iterable[int], tries: int, compute: Compute = compute) -> None:
    """Do those of some shards that nobody else is at, in their order; those that fail again, up to so many tries.

    `compute` may let another process do it. An error of one shard is kept beside it and stops no other one. Raises what
    no shard could be done under: wrong use, a full disk, no workers.
    """
    shards, mine = shards_of(stage), list(some)
    while True:
        tried = False
        for shard in mine:
            with shards.claim(shard) as free:
                if not free or shards.done(shard) or shards.tries(shard) >= tries:
                    continue
                tried = True
                attempt(stage, shards, shard, compute)
        if not tried:
            return


def attempt(stage: ShardedStage, shards: Shards, shard: int, compute: Compute) -> None:
    """Try one shard that this process has claimed."""
    before, last = shards.tries(shard), shards.failure(shard).get("error", "")
    shards.note_failure(shard, before + 1, NO_RETURN)
    try:
        done = compute(stage, shard)
        shards.keep(shard, done.files, done.facts)
    except Exception as error:
        if stops_all(error):
            raise
        shards.note_failure(shard, before + 1, one_line(error))
        logger.warning(f"{stage.name}: shard {shard} failed, try {before + 1}: {one_line(error)}")
    except BaseException:
        # Stopped by somebody: no fault of the shard.
        shards.forget_failure(shard)
        if before:
            shards.note_failure(shard, before, last)
        raise
    else:
        logger.info(progress_line(shards, shard))


def stops_all(error: Exception) -> bool:
    """Whether an error is no single shard's."""
    return isinstance(error, (UsageError, WorkersLost)) or (isinstance(error, OSError) and error.errno in _FULL)


def one_line(error: BaseException) -> str:
    """An error as one line."""
    said = " ".join(str(error).split())[:500]
    return said if isinstance(error, CrosspatchError) else f"{type(error).__name__}: {said}"


def progress_line(shards: Shards, shard: int) -> str:
    """What is said when a shard is done."""
    done = len(shards) - len(shards.left())
    return f"{shards.stage}: shard {shard} is done ({done} of {len(shards)}): {label(shards.plan()['shards'][shard])}"


def label(entry: Mapping[str, Any]) -> str:
    """A shard in words, by its entry in the plan."""
    prompts = entry["prompts"]
    words = prompts[0] if len(prompts) == 1 else f"{prompts[0]} to {prompts[-1]}"
    if "patches" in entry:
        first, last = entry["patches"]
        words += f", {last - first} patches"
    return words


def work_off_slice(stage: ShardedStage, number: int, of: int) -> None:
    """Do the `number`-th (from 1) of so many slices of a planned stage's shards, beside others that do theirs.

    Raises CrosspatchError where a shard failed each time.
    """
    shards = shards_of(stage)
    with stage.work.lock.together():
        slice_ = range(len(shards))[number - 1 :: of]
        work_off(stage, slice_, stage.work.experiment.execution.tries)
        if left := [shard for shard in slice_ if not shards.done(shard) and shards.tries(shard)]:
            tell_failures(shards, left)


def tell_failures(shards: Shards, left: list[int]) -> None:
    """Raise CrosspatchError that names the shards that are left, and why the first of them failed."""
    failed = [shard for shard in left if shards.tries(shard)]
    if not failed:
        raise CrosspatchError(
            f"{shards.stage}: {len(left)} of {len(shards)} shards were not done; give the command again"
        )
    first = shards.failure(failed[0])
    raise CrosspatchError(
        f"{shards.stage}: {len(left)} of {len(shards)} shards failed, {first['tries']} tries each; shard {failed[0]}: "
        f"{first['error']}; all are listed by: crosspatch status {shards.root}; the same command tries them again"
    )


def note_models(stage: ShardedStage, shards: Shards) -> None:
    """Put the models that shards were made with into the record; raises UsageError where they were not the same."""
    made_with: list[tuple[str, dict[str, Any]]] = []
    for shard in range(len(shards)):
        made_with += [one for one in shards.record(shard).get("models", {}).items() if one not in made_with]
    for name, facts in made_with:
        stage.work.directory.note_model(name, facts)
