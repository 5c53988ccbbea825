"""SLURM jobs, submitted by submitit as an array: each does a slice of the shards; failures are submitted again.

The jobs write into the run directory themselves. This process waits for them; if it is stopped, the jobs continue.
"""

from __future__ import annotations

import logging
import sys
import time
from functools import partial
from typing import Any

from crosspatch.config import Execution
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment.executors.workers import begin, fresh
from crosspatch.experiment.sharding import ShardedStage, one_line, progress_line, work_off_slice

logger = logging.getLogger(__name__)


# Seconds between two looks at the jobs.
_PAUSE = 2.0
# Minutes that a job may take unless execution.slurm sets another limit.
MINUTES = 720


def by_slurm(stage: ShardedStage, *, cluster: str = "slurm") -> None:
    """Compute the remaining shards in SLURM jobs. Raises UsageError where submitit or SLURM is missing.

    `cluster` is submitit's name for where jobs run: "local" are processes of this machine.
    """
    try:
        import submitit
    except ImportError:
        raise UsageError('execution.executor=slurm needs submitit: pip install "crosspatch[slurm]"') from None
    # It warns at every look where SLURM keeps no accounts.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    settings, shards = stage.context.experiment.execution, stage.shards
    number = min(settings.workers, len(shards.left()))
    executor = submitter(submitit, stage, settings, cluster)
    job = partial(_do_slice, fresh(stage), settings.threads or 1)
    with stage.context.lock.left_to_others():
        while any(shards.tries(shard) < settings.tries for shard in shards.left()):
            before = _tries(stage)
            jobs = executor.map_array(job, range(1, number + 1), [number] * number)
            logger.info(f"{stage.name}: {number} SLURM jobs, from {jobs[0].job_id}; logs are in {executor.folder}")
            _wait(stage, jobs)
            errors = [error for job in jobs if (error := _error(job)) is not None]
            # If the jobs did not begin a single shard, the next ones would not either.
            if errors and _tries(stage) == before:
                raise CrosspatchError(
                    f"{stage.name}: the jobs ended without computing a shard: {one_line(errors[0])[-300:]}"
                )


def submitter(submitit: Any, stage: ShardedStage, settings: Execution, cluster: str) -> Any:
    """The submitit executor of a stage, with the parameters in execution.slurm; raises UsageError for unknown ones."""
    try:
        executor = submitit.AutoExecutor(folder=stage.shards.folder.resolve() / "jobs", cluster=cluster)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"SLURM cannot be reached from here: {error}") from None
    gpus = settings.gpus if settings.gpus is not None else float(stage.context.experiment.models.device != "cpu")
    parameters = {
        "name": f"crosspatch-{stage.name}",
        "timeout_min": MINUTES,
        "cpus_per_task": settings.threads or 1,
        "gpus_per_node": round(gpus),
    }
    parameters = {key: value for key, value in parameters.items() if value} | settings.slurm
    try:
        executor.update_parameters(**parameters)
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(f"execution.slurm: {' '.join(str(error).split())}") from None
    return executor


def _do_slice(stage: ShardedStage, threads: int, number: int, of: int) -> None:
    """Run one job."""
    begin(threads, logging.StreamHandler(sys.stdout))
    work_off_slice(stage, number, of)


def _wait(stage: ShardedStage, jobs: list[Any]) -> None:
    """Log finished shards until all jobs have ended."""
    left, ended = set(stage.shards.left()), False
    while not ended:
        ended = all(job.done() for job in jobs)
        now = set(stage.shards.left())
        for shard in sorted(left - now):
            logger.info(progress_line(stage.shards, shard))
        left = now
        if not ended:
            time.sleep(_PAUSE)


def _error(job: Any) -> BaseException | None:
    try:
        error: BaseException | None = job.exception()
    except Exception as missing:
        # submitit raises where a job left no result: killed, or out of time.
        return missing
    return error


def _tries(stage: ShardedStage) -> list[int]:
    """The number of tries of each remaining shard."""
    return [stage.shards.tries(shard) for shard in stage.shards.left()]
