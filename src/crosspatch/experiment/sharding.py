"""Stages whose work is a list of shards: planned once, computed by one process or several, collected at the end.

The run directory records which shards are done and who computes one (`storage.shards`), so a killed command needs no
clean-up: the same command resumes with the remaining shards. Executors decide where a shard is computed.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment.run_context import RunContext
from crosspatch.storage.shards import Shards

logger = logging.getLogger(__name__)


# Recorded before each try, and left there if the process is killed.
KILLED = "the process that computed it was killed, perhaps for lack of memory"
# With these errors no other shard can be written either.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

Files = Mapping[str, bytes]


@dataclass
class ShardedStage:
    """A stage that is a list of shards. Each process creates its own from the experiment and the run directory."""

    name: ClassVar[str]
    context: RunContext

    def plan(self) -> dict[str, Any]:
        """The plan: an entry for each shard under `shards`, and values that all shards share."""
        raise NotImplementedError

    def do(self, shard: int) -> Files:
        """Compute a shard: the contents of its files, by their paths in the run directory. Writes nothing."""
        raise NotImplementedError

    def collect(self) -> None:
        """Called when all shards are done. Does nothing by default: tables are read from their parts."""

    @cached_property
    def shards(self) -> Shards:
        """The stage's shards in its run directory."""
        return Shards(self.context.directory.root, self.name)


@dataclass(frozen=True)
class Outcome:
    """The files of a computed shard, and how it was computed."""

    files: Files
    facts: Mapping[str, Any]


class WorkersLost(CrosspatchError):
    """One worker after another died, so no shard can be computed."""


def prepare(stage: ShardedStage) -> None:
    """Plan the stage if it has no plan; shards with damaged files are computed again."""
    shards = stage.shards
    if not shards.planned:
        shards.put_plan(stage.plan())
    for shard, wrong in shards.damaged().items():
        logger.warning(f"{stage.name}: {wrong}; it is computed again")
        shards.forget(shard)


def compute(stage: ShardedStage, shard: int) -> Outcome:
    """Compute one shard and note its seconds, the time, and the models."""
    start = time.monotonic()
    files = stage.do(shard)
    facts = {
        "seconds": round(time.monotonic() - start, 3),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": dict(stage.context.facts),
    }
    return Outcome(files, facts)


def work_off(
    stage: ShardedStage, some: Iterable[int], compute: Callable[[ShardedStage, int], Outcome] = compute
) -> None:
    """Compute the given shards in order, except those that another process is computing; retry shards that fail.

    `compute` may use another process. An error of one shard is recorded with it and stops no other shard. Raises the
    errors that would stop every shard: wrong use, a full disk, no workers.
    """
    mine, tries = list(some), stage.context.experiment.execution.tries
    while True:
        tried = False
        for shard in mine:
            with stage.shards.claim(shard) as free:
                if free and not stage.shards.done(shard) and stage.shards.tries(shard) < tries:
                    tried = True
                    _attempt(stage, shard, compute)
        if not tried:
            return


def _attempt(stage: ShardedStage, shard: int, compute: Callable[[ShardedStage, int], Outcome]) -> None:
    """Try one shard that this process has claimed."""
    shards = stage.shards
    before, last = shards.tries(shard), shards.failure(shard).get("error", "")
    shards.note_failure(shard, before + 1, KILLED)
    try:
        done = compute(stage, shard)
        shards.keep(shard, done.files, done.facts)
    except Exception as error:
        if stops_all(error):
            raise
        shards.note_failure(shard, before + 1, one_line(error))
        logger.warning(f"{stage.name}: shard {shard} failed, try {before + 1}: {one_line(error)}")
    except BaseException:
        # Interrupted: this is no failure of the shard.
        shards.forget_failure(shard)
        if before:
            shards.note_failure(shard, before, last)
        raise
    else:
        logger.info(progress_line(shards, shard))


def stops_all(error: Exception) -> bool:
    """Whether an error would stop every shard."""
    return isinstance(error, (UsageError, WorkersLost)) or (isinstance(error, OSError) and error.errno in _FULL)


def one_line(error: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, CrosspatchError) else f"{type(error).__name__}: {text}"


def progress_line(shards: Shards, shard: int) -> str:
    """The line that is logged when a shard is done: the number of finished shards, its prompts and its patches."""
    entry, done = shards.plan()["shards"][shard], len(shards) - len(shards.left())
    prompts = entry["prompts"]
    label = prompts[0] if len(prompts) == 1 else f"{prompts[0]} to {prompts[-1]}"
    if "patches" in entry:
        first, last = entry["patches"]
        label += f", {last - first} patches"
    return f"{shards.stage}: shard {shard} is done ({done} of {len(shards)}): {label}"


def work_off_slice(stage: ShardedStage, number: int, of: int) -> None:
    """Compute slice `number` (from 1) of `of` slices of a planned stage's shards, while other processes compute the
    others.

    Raises CrosspatchError if a shard failed at every try.
    """
    with stage.context.lock.together():
        slice_ = range(len(stage.shards))[number - 1 :: of]
        work_off(stage, slice_)
        if left := [shard for shard in slice_ if not stage.shards.done(shard) and stage.shards.tries(shard)]:
            raise_failures(stage.shards, left)


def raise_failures(shards: Shards, left: list[int]) -> None:
    """Raise CrosspatchError with the number of remaining shards and the first error."""
    failed = [shard for shard in left if shards.tries(shard)]
    if not failed:
        raise CrosspatchError(
            f"{shards.stage}: {len(left)} of {len(shards)} shards are left; run the same command again"
        )
    first = shards.failure(failed[0])
    raise CrosspatchError(
        f"{shards.stage}: {len(left)} of {len(shards)} shards failed, {first['tries']} tries each; shard {failed[0]}: "
        f"{first['error']}; all are listed by: crosspatch status {shards.root}; the same command tries them again"
    )


def record_models(stage: ShardedStage) -> None:
    """Record the models that shards were computed with; raises UsageError if they differ."""
    recorded: list[tuple[str, dict[str, Any]]] = []
    for shard in range(len(stage.shards)):
        for model in stage.shards.record(shard).get("models", {}).items():
            if model not in recorded:
                stage.context.directory.note_model(*model)
                recorded.append(model)
