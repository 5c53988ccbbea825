"""The actors of a Ray cluster, each with a pair of models: this process hands out shards and writes what comes back.

Actors read the run directory, under the same path; nobody but this process writes there. They are asked for all at
once, so a cluster that scales by itself grows until they have their places.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from crosspatch.config import Execution
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment.executors.worker import Order
from crosspatch.experiment.sharding import (
    NO_RETURN,
    Outcome,
    ShardedStage,
    compute,
    one_line,
    progress_line,
    shards_of,
    stops_all,
)
from crosspatch.storage.shards import Shards

# What an actor's process is given before torch is imported there; Ray itself sets one thread.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "TQDM_DISABLE": "1"}
# Actors that may die before they have done anything.
_STILLBORN = 3


class _Worker:
    """What an actor is: a stage with its models."""

    def __init__(self, order: Order) -> None:
        self._stage = order.begin(print)

    def do(self, shard: int) -> Outcome:
        return compute(self._stage, shard)


@dataclass
class _Task:
    """A shard that an actor is at, claimed for as long."""

    shard: int
    actor: Any
    claim: ExitStack


def by_ray(stage: ShardedStage) -> None:
    """Do what is left of a stage by actors. Raises UsageError where Ray is missing or its cluster is not reached."""
    try:
        import ray
    except ImportError:
        raise UsageError('execution.executor=ray needs Ray: pip install "crosspatch[ray]"') from None
    settings, shards = stage.work.experiment.execution, shards_of(stage)
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, settings)
    try:
        _Dispatch(ray, stage, shards, settings).run()
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


class _Dispatch:
    """Shards to be handed out, and actors that are at some."""

    def __init__(self, ray: Any, stage: ShardedStage, shards: Shards, settings: Execution) -> None:
        self.ray, self.stage, self.shards, self.settings = ray, stage, shards, settings
        self.waiting = deque(shards.left())
        self.running: dict[Any, _Task] = {}
        threads = settings.threads or 1
        device = stage.work.experiment.models.device
        gpus = settings.gpus if settings.gpus is not None else float(device != "cpu" and _has_gpus(ray))
        self.actors = ray.remote(num_cpus=threads, num_gpus=gpus)(_Worker)
        self.order = Order.of(stage, threads)
        self.idle = [self._actor() for _ in range(min(settings.workers, len(self.waiting)))]
        self.deaths = 0

    def run(self) -> None:
        try:
            while self.waiting or self.running:
                while self.idle and self.waiting:
                    self._hand_out(self.waiting.popleft())
                if self.running:
                    ready, _ = self.ray.wait(list(self.running), num_returns=1)
                    self._take(ready[0])
        finally:
            for task in self.running.values():
                task.claim.close()
            for actor in [*self.idle, *(task.actor for task in self.running.values())]:
                self.ray.kill(actor)

    def _actor(self) -> Any:
        return self.actors.remote(self.order)

    def _hand_out(self, shard: int) -> None:
        claim = ExitStack()
        if not claim.enter_context(self.shards.claim(shard)) or self.shards.done(shard):
            claim.close()
            return
        self.shards.note_failure(shard, self.shards.tries(shard) + 1, NO_RETURN)
        actor = self.idle.pop()
        self.running[actor.do.remote(shard)] = _Task(shard, actor, claim)

    def _take(self, reference: Any) -> None:
        """What came of a shard, or why nothing did."""
        task = self.running.pop(reference)
        errors = self.ray.exceptions
        try:
            outcome = self.ray.get(reference)
        except errors.RayTaskError as raised:
            # An error of the shard; the actor lives on.
            cause = getattr(raised, "cause", None) or raised
            self.idle.append(task.actor)
            task.claim.close()
            if isinstance(cause, Exception) and stops_all(cause):
                self.shards.forget_failure(task.shard)
                raise cause from None
            self._failed(task.shard, one_line(cause))
        except errors.RayActorError as raised:
            task.claim.close()
            self.deaths += 1
            if isinstance(cause := getattr(raised, "cause", None), UsageError):
                raise cause from None
            if self.deaths >= _STILLBORN and len(self.shards.left()) == len(self.shards):
                raise CrosspatchError(
                    f"{self.stage.name}: actors end before they have done a shard: {NO_RETURN}"
                ) from None
            self.idle.append(self._actor())
            self._failed(task.shard, NO_RETURN)
        else:
            self.shards.keep(task.shard, outcome.files, outcome.facts)
            task.claim.close()
            self.idle.append(task.actor)
            self.stage.work.say(progress_line(self.shards, task.shard))

    def _failed(self, shard: int, error: str) -> None:
        tries = self.shards.tries(shard)
        self.shards.note_failure(shard, tries, error)
        self.stage.work.say(f"{self.stage.name}: shard {shard} failed, try {tries}: {error}")
        if tries < self.settings.tries:
            self.waiting.append(shard)


def _has_gpus(ray: Any) -> bool:
    return float(ray.cluster_resources().get("GPU", 0)) > 0
