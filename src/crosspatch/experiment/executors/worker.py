"""A process that does shards for another one: what it is given, and how it begins."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from crosspatch.config import Experiment
from crosspatch.experiment.run_context import RunContext
from crosspatch.experiment.sharding import ShardedStage
from crosspatch.storage.run import RunDirectory

# Workers that may die one after the other before any has begun a shard, or has done one where only that is known.
STILLBORN = 3


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is given: which stage of which experiment, where it stands, and with how many threads."""

    stage: type[ShardedStage]
    settings: dict[str, Any]
    root: Path
    threads: int

    @classmethod
    def of(cls, stage: ShardedStage, threads: int) -> WorkerSpec:
        """What the workers of a stage are given."""
        settings = stage.work.experiment.model_dump(mode="json")
        return cls(type(stage), settings, stage.work.directory.root.resolve(), threads)

    def begin(self, handler: logging.Handler) -> ShardedStage:
        """The stage in a worker's process, which gets its threads, and logs to a handler."""
        logger = logging.getLogger("crosspatch")
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        torch.set_num_threads(self.threads)
        work = RunContext(Experiment.model_validate(self.settings), RunDirectory(self.root), one_of_several=True)
        return self.stage(work)
