"""Several processes on this machine as workers."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from functools import partialmethod
from multiprocessing.connection import Connection

import torch
from tqdm import tqdm

from crosspatch.errors import UsageError
from crosspatch.experiment.executors.workers import Pool, Reply, Worker, WorkerDied, fresh
from crosspatch.experiment.sharding import ShardedStage

logger = logging.getLogger(__name__)

# Imported once, before the first worker is forked: each import takes seconds.
PRELOADED = [
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "crosspatch.experiment.forced_texts",
    "crosspatch.experiment.patching",
]
_context = multiprocessing.get_context("forkserver")


def by_processes(stage: ShardedStage) -> None:
    """Compute the remaining shards in processes, each with its own pair of models."""
    settings, left = stage.context.experiment.execution, len(stage.shards.left())
    if left < settings.workers:
        logger.warning(
            f"{stage.name}: {left} shards for {settings.workers} workers; lower patch.shard_rows for more shards"
        )
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    gpus = _gpus(stage)
    _context.set_forkserver_preload(PRELOADED)
    Pool(stage, lambda i: _Process(fresh(stage), threads, gpus[i % len(gpus)] if gpus else None)).work_off()


class _Process:
    """A worker in a process of this machine."""

    def __init__(self, stage: ShardedStage, threads: int, gpu: str | None) -> None:
        self._pipe, theirs = _context.Pipe()
        self._process = _context.Process(target=_serve, args=(theirs, stage, threads, gpu), daemon=True)
        self._process.start()
        theirs.close()

    def do(self, shard: int) -> Reply:
        try:
            self._pipe.send(shard)
            reply: Reply = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode or 0
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise WorkerDied(f"worker {self._process.pid} ended with {how}") from None
        return reply

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, stage: ShardedStage, threads: int, gpu: str | None) -> None:
    """Compute the shards that come through a pipe, in a worker's process."""
    # Ctrl-C reaches the whole process group; the main process ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    # Progress bars of several workers would overwrite one another.
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)  # type: ignore[method-assign,assignment]
    worker = Worker(stage, threads)
    while True:
        pipe.send(worker.do(pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _gpus(stage: ShardedStage) -> list[str] | None:
    """The GPUs that each worker may see, in turn; None if all workers see the same GPUs."""
    settings, device = stage.context.experiment.execution, stage.context.experiment.models.device
    if device not in {"auto", "cuda"} or settings.gpus == 0 or not torch.cuda.is_available():
        return None
    each, number = max(1, round(settings.gpus or 1)), torch.cuda.device_count()
    if each > number:
        raise UsageError(f"got execution.gpus={each}, but this machine has {number} GPUs")
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = shown.split(",") if shown else [str(i) for i in range(number)]
    return [",".join(names[i : i + each]) for i in range(0, number - each + 1, each)]
