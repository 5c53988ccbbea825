"""Several processes on this machine. Each takes the next shard that nobody is at; one that dies is replaced."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

import torch

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment.executors.worker import STILLBORN, WorkerSpec
from crosspatch.experiment.sharding import ShardedStage, WorkersLost, one_line, shards_of, work_off
from crosspatch.storage.shards import Shards

logger = logging.getLogger(__name__)


# Seconds that a worker has to end by itself.
_PATIENCE = 5
# What every worker needs, imported once before the first is forked: each import takes seconds.
PRELOADED = [
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "crosspatch.experiment.controls",
    "crosspatch.experiment.patching",
    "crosspatch.experiment.mistakes",
]


@dataclass(frozen=True)
class _Worker:
    """A process and what it says: ("line", level, text), or last ("error", text, whether the use was wrong)."""

    process: ForkServerProcess
    said: Connection

    def end(self) -> None:
        self.process.terminate()
        self.process.join(_PATIENCE)
        self.process.kill()
        self.process.join()
        self.said.close()


class _ToParent(logging.Handler):
    """What a worker logs, sent to the process that started it."""

    def __init__(self, said: Connection) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.send(("line", record.levelno, self.format(record)))


def by_processes(stage: ShardedStage) -> None:
    """Do what is left of a stage by processes with a pair of models each."""
    settings, shards = stage.work.experiment.execution, shards_of(stage)
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    spec, number = WorkerSpec.of(stage, threads), min(settings.workers, len(shards.left()))
    if number < settings.workers:
        logger.warning(f"{stage.name}: {number} shards for {settings.workers} workers; patch.shard_rows makes more")
    gpus = _gpus(stage)
    with _quiet_bars():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        workers = [_started(context, spec, gpus, i, settings.tries) for i in range(number)]
    idle, before = 0, _progress(shards)
    try:
        while workers:
            ready = wait([worker.said for worker in workers])
            for place, worker in enumerate(list(workers)):
                if worker.said not in ready or _hear(stage, worker):
                    continue
                worker.process.join()
                worker.said.close()
                workers.remove(worker)
                if worker.process.exitcode == 0:
                    continue
                code, now = worker.process.exitcode, _progress(shards)
                logger.warning(f"{stage.name}: worker {worker.process.pid} ended with {_how(code)}")
                idle = 0 if now != before else idle + 1
                before = now
                if idle >= STILLBORN:
                    raise WorkersLost(f"{stage.name}: workers end before they begin a shard, with {_how(code)}")
                if any(shards.tries(shard) < settings.tries for shard in shards.left()):
                    workers.append(_started(context, spec, gpus, place, settings.tries))
    finally:
        for worker in workers:
            worker.end()


def _started(context: Any, spec: WorkerSpec, gpus: list[str] | None, place: int, tries: int) -> _Worker:
    ours, theirs = context.Pipe(duplex=False)
    gpu = None if not gpus else gpus[place % len(gpus)]
    process = context.Process(target=_serve, args=(spec, theirs, gpu, tries), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(spec: WorkerSpec, said: Connection, gpu: str | None, tries: int) -> None:
    """What a worker does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        stage = spec.begin(_ToParent(said))
        work_off(stage, range(len(shards_of(stage))), tries)
    except KeyboardInterrupt:
        os._exit(1)
    except Exception as error:
        said.send(("error", one_line(error), isinstance(error, UsageError)))
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _hear(stage: ShardedStage, worker: _Worker) -> bool:
    """Pass on what a worker says; false where it has ended. Raises the error that it ended with."""
    try:
        kind, *words = worker.said.recv()
    except (EOFError, OSError):
        return False
    if kind == "line":
        logger.log(*words)
        return True
    line, wrong_use = words
    raise UsageError(line) if wrong_use else CrosspatchError(line)


def _progress(shards: Shards) -> int:
    """A number that grows whenever a shard is begun or done."""
    left = shards.left()
    return (len(shards) - len(left)) * 1_000 + sum(map(shards.tries, left))


def _how(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _gpus(stage: ShardedStage) -> list[str] | None:
    """For each worker in turn the GPUs that it may see; None where all see the same."""
    settings, device = stage.work.experiment.execution, stage.work.experiment.models.device
    if device not in {"auto", "cuda"} or settings.gpus == 0 or not torch.cuda.is_available():
        return None
    each, number = max(1, round(settings.gpus or 1)), torch.cuda.device_count()
    if each > number:
        raise UsageError(f"execution.gpus asks for {each} GPUs a worker; this machine has {number}")
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = shown.split(",") if shown else [str(i) for i in range(number)]
    return [",".join(names[i : i + each]) for i in range(0, number - each + 1, each)]


@contextmanager
def _quiet_bars() -> Iterator[None]:
    """Within the context processes are started whose progress bars are off: they would write over one another."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before
