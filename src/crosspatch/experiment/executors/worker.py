"""A process that does shards for another one: what it is told, and how it begins. Knows no executor."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosspatch.config import Execution, Experiment
from crosspatch.experiment.sharding import ShardedStage
from crosspatch.experiment.work import Work
from crosspatch.storage.run import RunDirectory


@dataclass(frozen=True)
class Order:
    """What a worker is told: which stage of which experiment, where it stands, and with how many threads."""

    stage: type[ShardedStage]
    settings: dict[str, Any]
    root: Path
    threads: int

    @classmethod
    def of(cls, stage: ShardedStage, threads: int) -> Order:
        """The order for the workers of a stage."""
        settings = stage.work.experiment.model_dump(mode="json")
        return cls(type(stage), settings, stage.work.directory.root.resolve(), threads)

    def begin(self, say: Callable[[str], None]) -> ShardedStage:
        """The stage in a worker's process, which gets its threads."""
        import torch

        torch.set_num_threads(self.threads)
        work = Work(Experiment.model_validate(self.settings), RunDirectory(self.root), say, one_of_several=True)
        return self.stage(work)


def threads_of(settings: Execution) -> int:
    """CPU threads of a worker on this machine."""
    return settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
