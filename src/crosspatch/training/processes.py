"""Several processes that train one model together, as `accelerate launch` or `torchrun` start them.

The first process leads: it reads and writes files, and sends the others the trainings that they run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from crosspatch.config import Finetune
from crosspatch.errors import UsageError

# The other processes wait while the leading one makes lessons or evaluates: for hours with a large model.
_PATIENCE = timedelta(days=7)


def count() -> int:
    """How many processes train together; 1 unless a launcher started this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def announce(job: Callable[[], None] | None, *, cpu: bool) -> None:
    """Send the other processes, if there are any, what to run next; None: they end."""
    if count() > 1:
        _broadcast(job, cpu)


def train_along(*, cpu: bool) -> None:
    """In every process but the leading one: run each job that is announced, until there is none."""
    while (job := _broadcast(None, cpu)) is not None:
        job()


def wait(*, cpu: bool) -> None:
    """Wait until all processes reach this call."""
    if count() > 1:
        _state(cpu).wait_for_everyone()


def shared(settings: Finetune) -> tuple[int, int]:
    """(examples in a forward pass, forward passes in a step) of each process, so that a step keeps its examples.

    Raises UsageError where a step's examples cannot be divided.
    """
    processes = count()
    if settings.accumulation % processes == 0:
        return settings.batch_size, settings.accumulation // processes
    if settings.batch_size % processes == 0:
        return settings.batch_size // processes, settings.accumulation
    raise UsageError(
        f"{processes} processes cannot share steps of batch_size {settings.batch_size} times accumulation "
        f"{settings.accumulation}; make one of the two a multiple of {processes}"
    )


def _broadcast(job: Callable[[], None] | None, cpu: bool) -> Any:
    from accelerate.utils import broadcast_object_list

    state, sent = _state(cpu), [job]
    broadcast_object_list(sent)
    if sent[0] is None:
        # A group that is left to the end of Python can abort a process there (pytorch pull request 179291).
        state.destroy_process_group()
    return sent[0]


def _state(cpu: bool) -> Any:
    """The group of processes; the first call makes it."""
    from accelerate import PartialState

    return PartialState(cpu=cpu, timeout=_PATIENCE)
