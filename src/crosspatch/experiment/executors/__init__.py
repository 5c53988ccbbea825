"""Where the shards of a stage are computed: in this process, in others on this machine, by Ray actors, by SLURM jobs.

An executor computes the remaining shards of a stage and records each failure with its shard.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from crosspatch.config import Execution
from crosspatch.experiment.sharding import ShardedStage, prepare, raise_failures, record_models, work_off


def carry_out(stage: ShardedStage, show: Callable[[], None] | None = None) -> None:
    """Compute the remaining shards of a stage with the executor that the settings name, then collect them.

    `show` is called when the first of several shards is done, if this process computes them.

    Shards with damaged files are computed again. Raises CrosspatchError if a shard failed at every try.
    """
    prepare(stage)
    shards = stage.shards
    shards.forget_failures()
    if left := shards.left():
        compute = executor(stage.context.experiment.execution)
        if show and compute is by_this_process and len(left) == len(shards) > 1:
            work_off(stage, left[:1])
            show()
        compute(stage)
    if left := shards.left():
        raise_failures(shards, left)
    shards.clear_locks()
    record_models(stage)
    stage.collect()


def executor(settings: Execution) -> Callable[[ShardedStage], None]:
    """The executor that the settings name. Only its module is imported: Ray and submitit are optional."""
    if settings.executor == "local" and settings.workers == 1:
        return by_this_process
    name = "by_processes" if settings.executor == "local" else f"by_{settings.executor}"
    found: Callable[[ShardedStage], None] = getattr(import_module(f"{__name__}.{name}"), name)
    return found


def by_this_process(stage: ShardedStage) -> None:
    """Compute one shard after the other in this process."""
    work_off(stage, stage.shards.left())
