"""SLURM jobs, an array of them, submitted by submitit: each does a slice of the shards, and what fails is sent again.

The jobs write into the run directory themselves; this process waits, and can be stopped without stopping them.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from crosspatch.config import Execution
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment.executors.worker import WorkerSpec
from crosspatch.experiment.sharding import ShardedStage, progress_line, shards_of, work_off_slice

logger = logging.getLogger(__name__)


# Seconds between two looks at the jobs.
_PAUSE = 2.0
# Minutes that a job may take where execution.slurm says nothing else.
MINUTES = 720


def by_slurm(stage: ShardedStage, *, cluster: str = "slurm") -> None:
    """Do what is left of a stage by jobs. Raises UsageError where submitit or SLURM is missing.

    `cluster` is submitit's name for where jobs run: "local" are processes of this machine.
    """
    try:
        import submitit
    except ImportError:
        raise UsageError('execution.executor=slurm needs submitit: pip install "crosspatch[slurm]"') from None
    # It warns at every look where SLURM keeps no accounts.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    settings, shards = stage.work.experiment.execution, shards_of(stage)
    number = min(settings.workers, len(shards.left()))
    executor = submitter(submitit, stage, settings, cluster)
    spec = WorkerSpec.of(stage, settings.threads or 1)
    with stage.work.lock.left_to_others():
        while any(shards.tries(shard) < settings.tries for shard in shards.left()):
            before = _standing(stage)
            jobs = executor.map_array(_do_slice, [spec] * number, range(1, number + 1), [number] * number)
            logger.info(f"{stage.name}: {number} SLURM jobs, {jobs[0].job_id} and on; logs are in {executor.folder}")
            _wait(stage, jobs)
            errors = [str(error) for job in jobs if (error := _error(job)) is not None]
            # Jobs that came to nothing at all would do so again.
            if errors and _standing(stage) == before:
                raise CrosspatchError(
                    f"{stage.name}: the jobs ended without a shard: {' '.join(errors[0].split())[-300:]}"
                )


def submitter(submitit: Any, stage: ShardedStage, settings: Execution, cluster: str) -> Any:
    """What submits the jobs of a stage, with execution.slurm as its parameters; raises UsageError for wrong ones."""
    folder = shards_of(stage).folder.resolve() / "jobs"
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"SLURM is not reached from here: {error}") from None
    gpus = settings.gpus if settings.gpus is not None else float(stage.work.experiment.models.device != "cpu")
    wanted = {
        "name": f"crosspatch-{stage.name}",
        "timeout_min": MINUTES,
        "cpus_per_task": settings.threads or 1,
        "gpus_per_node": round(gpus),
    }
    wanted = {key: value for key, value in wanted.items() if value} | settings.slurm
    try:
        executor.update_parameters(**wanted)
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(f"execution.slurm: {' '.join(str(error).split())}") from None
    return executor


def _do_slice(spec: WorkerSpec, number: int, of: int) -> None:
    """What a job does."""
    work_off_slice(spec.begin(logging.StreamHandler(sys.stdout)), number, of)


def _wait(stage: ShardedStage, jobs: list[Any]) -> None:
    """Say what is done until all jobs have ended."""
    shards = shards_of(stage)
    said = set(range(len(shards))) - set(shards.left())
    while True:
        ended = all(job.done() for job in jobs)
        for shard in range(len(shards)):
            if shard not in said and shards.done(shard):
                said.add(shard)
                logger.info(progress_line(shards, shard))
        if ended:
            return
        time.sleep(_PAUSE)


def _error(job: Any) -> BaseException | None:
    try:
        return job.exception()
    except Exception as error:
        # submitit raises where a job left no result: killed, or out of time.
        return error


def _standing(stage: ShardedStage) -> list[int]:
    """A number for each shard that is not done: how often it was tried."""
    shards = shards_of(stage)
    return [shards.tries(shard) for shard in shards.left()]
