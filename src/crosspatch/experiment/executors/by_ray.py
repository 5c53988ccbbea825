"""The actors of a Ray cluster as workers.

All actors need the run directory under the same path. They are requested all at once, so an autoscaling cluster grows
until they fit.
"""

from __future__ import annotations

from typing import Any

from crosspatch.config import Execution
from crosspatch.errors import UsageError
from crosspatch.experiment.executors.workers import Pool, Reply, Worker, WorkerDied, fresh
from crosspatch.experiment.sharding import ShardedStage, one_line

# The environment of an actor's process before torch is imported there; Ray itself sets one thread.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "TQDM_DISABLE": "1"}


def by_ray(stage: ShardedStage) -> None:
    """Compute the remaining shards with Ray actors. Raises UsageError without Ray, or if its cluster is not reached."""
    try:
        import ray
    except ImportError:
        raise UsageError('execution.executor=ray needs Ray: pip install "crosspatch[ray]"') from None
    settings, device = stage.context.experiment.execution, stage.context.experiment.models.device
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, settings)
    try:
        threads, gpus = settings.threads or 1, settings.gpus
        if gpus is None:
            gpus = float(device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0)
        kind = ray.remote(num_cpus=threads, num_gpus=gpus)(Worker)
        Pool(stage, lambda _: _Actor(ray, kind.remote(fresh(stage), threads))).work_off()
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
            f"no Ray cluster at {settings.address}, or it needs a token (RAY_AUTH_MODE=token): {one_line(error)}"
        ) from None


class _Actor:
    """A worker that runs as a Ray actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def do(self, shard: int) -> Reply:
        try:
            reply: Reply = self._ray.get(self._actor.do.remote(shard))
        except self._ray.exceptions.RayActorError as error:
            raise WorkerDied(f"an actor ended: {one_line(error)}") from None
        return reply

    def kill(self) -> None:
        self._ray.kill(self._actor)
