"""Who does the shards of a stage: this process, others on this machine, the actors of a Ray cluster, SLURM jobs.

An executor does what is left of a stage as far as it can be done, and keeps what failed beside its shard; it knows
neither what a shard is nor what follows.
"""

from __future__ import annotations

from collections.abc import Callable

from crosspatch.config import Execution
from crosspatch.experiment.sharding import ShardedStage, shards_of, work_off


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
