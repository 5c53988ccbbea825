"""Who does the shards of a stage: this process, others on this machine, the actors of a Ray cluster, SLURM jobs.

An executor does what is left of a stage as far as it can be done, and keeps what failed beside its shard; it knows
neither what a shard is nor what follows.
"""

from __future__ import annotations

from collections.abc import Callable

from crosspatch.config import Execution
from crosspatch.experiment.sharding import ShardedStage, note_models, prepare, shards_of, tell_failures, work_off


def carry_out(stage: ShardedStage) -> None:
    """Do all shards of a stage that are left, by the executor of the settings, and what follows.

    Files that are not as they were written are made again. Raises CrosspatchError where a shard failed each time.
    """
    shards = prepare(stage)
    shards.forget_failures()
    if shards.left():
        executor(stage.work.experiment.execution)(stage)
    if left := shards.left():
        tell_failures(shards, left)
    shards.clear_locks()
    note_models(stage, shards)
    stage.gather()


def executor(settings: Execution) -> Callable[[ShardedStage], None]:
    """The executor that settings name. Raises UsageError where its package is missing."""
    if settings.executor == "ray":
        from crosspatch.experiment.executors.by_ray import by_ray

        return by_ray
    if settings.executor == "slurm":
        from crosspatch.experiment.executors.by_slurm import by_slurm

        return by_slurm
    if settings.workers > 1:
        from crosspatch.experiment.executors.by_processes import by_processes

        return by_processes
    return by_this_process


def by_this_process(stage: ShardedStage) -> None:
    """One shard after the other, here."""
    work_off(stage, shards_of(stage).left(), stage.work.experiment.execution.tries)
