"""The actors of a Ray cluster, each with a pair of models; a thread of this process hands shards to each.

Actors read the run directory, under the same path; nobody but this process writes there. They are asked for all at
once, so a cluster that scales by itself grows until they have their places.
"""

from __future__ import annotations

import logging
import sys
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from crosspatch.config import Execution
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment.executors.worker import STILLBORN, WorkerSpec
from crosspatch.experiment.sharding import (
    NO_RETURN,
    Outcome,
    ShardedStage,
    WorkersLost,
    compute,
    one_line,
    shards_of,
    work_off,
)

# What an actor's process is given before torch is imported there; Ray itself sets one thread.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "TQDM_DISABLE": "1"}


class _Worker:
    """What an actor is: a stage with its models."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._stage = spec.begin(logging.StreamHandler(sys.stdout))

    def do(self, shard: int) -> Outcome:
        return compute(self._stage, shard)


class _Stopped(BaseException):
    """Ends a thread whose actor was ended from here; no fault of its shard."""


def by_ray(stage: ShardedStage) -> None:
    """Do what is left of a stage by actors. Raises UsageError where Ray is missing or its cluster is not reached."""
    try:
        import ray
    except ImportError:
        raise UsageError('execution.executor=ray needs Ray: pip install "crosspatch[ray]"') from None
    settings = stage.work.experiment.execution
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, settings)
    try:
        _Actors(ray, stage).work_off()
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, settings: Execution) -> None:
    own: dict[str, Any] = {}
    if settings.address is None:
        own = {"num_cpus": settings.workers * (settings.threads or 1), "include_dashboard": False}
    try:
        ray.init(
            address=settings.address or "local",
            runtime_env={"env_vars": _ENVIRONMENT},
            log_to_driver=False,
            logging_level="error",
            **own,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(
            f"no Ray cluster at {settings.address}, or it asks for a token (RAY_AUTH_MODE=token): {one_line(error)}"
        ) from None


class _Actors:
    """The actors of a stage; one that dies is replaced in its place."""

    def __init__(self, ray: Any, stage: ShardedStage) -> None:
        self.ray, self.stage, self.shards = ray, stage, shards_of(stage)
        settings, device = stage.work.experiment.execution, stage.work.experiment.models.device
        threads = settings.threads or 1
        gpus = float(device != "cpu" and _has_gpus(ray)) if settings.gpus is None else settings.gpus
        kind, spec = ray.remote(num_cpus=threads, num_gpus=gpus)(_Worker), WorkerSpec.of(stage, threads)
        self.new = lambda: kind.remote(spec)
        self.actors = [self.new() for _ in range(min(settings.workers, len(self.shards.left())))]
        self.deaths, self.stopped = 0, False

    def work_off(self) -> None:
        with ThreadPoolExecutor(len(self.actors)) as threads:
            try:
                running = [threads.submit(self._work_off, place) for place in range(len(self.actors))]
                for done in wait(running, return_when=FIRST_EXCEPTION).done:
                    done.result()
            finally:
                self.stopped = True
                for actor in self.actors:
                    self.ray.kill(actor)

    def _work_off(self, place: int) -> None:
        """Let the actor of a place do what no other one is at."""

        def by_actor(_: ShardedStage, shard: int) -> Outcome:
            return self._computed(place, shard)

        tries = self.stage.work.experiment.execution.tries
        work_off(self.stage, self.shards.left(), tries, by_actor)

    def _computed(self, place: int, shard: int) -> Outcome:
        """What the actor makes of a shard. Raises what it raised, and CrosspatchError where it has died."""
        errors = self.ray.exceptions
        if self.stopped:
            raise _Stopped
        try:
            outcome: Outcome = self.ray.get(self.actors[place].do.remote(shard))
        except errors.RayTaskError as raised:
            cause = getattr(raised, "cause", None)
            raise (cause if isinstance(cause, Exception) else raised) from None
        except errors.RayActorError as raised:
            if self.stopped:
                raise _Stopped from None
            if isinstance(cause := getattr(raised, "cause", None), UsageError):
                raise cause from None
            self.deaths += 1
            if self.deaths >= STILLBORN and len(self.shards.left()) == len(self.shards):
                raise WorkersLost(f"{self.stage.name}: actors end before they have done a shard: {NO_RETURN}") from None
            self.actors[place] = self.new()
            raise CrosspatchError(NO_RETURN) from None
        return outcome


def _has_gpus(ray: Any) -> bool:
    return float(ray.cluster_resources().get("GPU", 0)) > 0
