"""Workers: processes, here or on other machines, that compute shards for this one.

A thread of this process sends shards to each worker and writes the results. A worker that dies is replaced.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from logging.handlers import BufferingHandler
from typing import Protocol

import torch

from crosspatch.errors import CrosspatchError
from crosspatch.experiment.sharding import (
    KILLED,
    Outcome,
    ShardedStage,
    WorkersLost,
    compute,
    one_line,
    stops_all,
    work_off,
)
from crosspatch.storage.run import RunDirectory

logger = logging.getLogger(__name__)


def fresh(stage: ShardedStage) -> ShardedStage:
    """The stage with nothing loaded, as a worker gets it: it can be pickled."""
    directory = RunDirectory(stage.context.directory.root.resolve())
    return type(stage)(replace(stage.context, directory=directory, is_worker=True, facts={}))


def begin(threads: int, handler: logging.Handler) -> None:
    """Give a worker's process its CPU threads, and send what it logs to a handler."""
    package = logging.getLogger("crosspatch")
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Reply:
    """A worker's result or error for one shard, and the records that it logged."""

    result: Outcome | Exception
    logged: list[logging.LogRecord]


class Worker:
    """A stage with its models, in a worker's process."""

    def __init__(self, stage: ShardedStage, threads: int) -> None:
        self._stage, self._handler = stage, BufferingHandler(sys.maxsize)
        begin(threads, self._handler)

    def do(self, shard: int) -> Reply:
        """Compute a shard. Errors are returned in a form that can be pickled."""
        result: Outcome | Exception
        try:
            result = compute(self._stage, shard)
        except Exception as error:
            result = error if stops_all(error) else CrosspatchError(one_line(error))
        logged, self._handler.buffer = self._handler.buffer, []
        return Reply(result, logged)


class Handle(Protocol):
    """A worker as the main process sees it."""

    def do(self, shard: int) -> Reply:
        """Let the worker compute a shard. Raises WorkerDied."""

    def kill(self) -> None:
        """End the worker at once."""


class WorkerDied(Exception):
    """A worker's process ended; the message says how."""


class Pool:
    """The workers of a stage; `start` makes one from its number, from 0."""

    def __init__(self, stage: ShardedStage, start: Callable[[int], Handle]) -> None:
        self._stage, self._start = stage, start
        number = min(stage.context.experiment.execution.workers, len(stage.shards.left()))
        self._workers = [start(i) for i in range(number)]
        self._deaths, self._stopped = 0, False

    def work_off(self) -> None:
        """Compute the remaining shards, then end the workers. Raises WorkersLost if one worker after another dies."""
        with ThreadPoolExecutor(len(self._workers)) as threads:
            try:
                running = [threads.submit(self._feed, i) for i in range(len(self._workers))]
                for done in wait(running, return_when=FIRST_EXCEPTION).done:
                    done.result()
            finally:
                self._stopped = True
                for worker in self._workers:
                    worker.kill()

    def _feed(self, i: int) -> None:
        """Send shards to worker `i` until all are computed or claimed by other workers."""
        work_off(self._stage, self._stage.shards.left(), lambda _, shard: self._computed(i, shard))

    def _computed(self, i: int, shard: int) -> Outcome:
        try:
            reply = self._workers[i].do(shard)
        except WorkerDied as died:
            if self._stopped:
                # This process killed the worker: this is no failure of the shard.
                raise KeyboardInterrupt from None
            logger.warning(f"{self._stage.name}: {died}")
            self._deaths += 1
            if self._deaths >= self._stage.context.experiment.execution.tries * len(self._workers):
                raise WorkersLost(f"{self._stage.name}: {self._deaths} workers died in a row: {died}") from None
            self._workers[i] = self._start(i)
            raise CrosspatchError(KILLED) from None
        self._deaths = 0
        for record in reply.logged:
            logging.getLogger(record.name).handle(record)
        if isinstance(reply.result, Exception):
            raise reply.result
        return reply.result
