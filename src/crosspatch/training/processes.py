"""Lets several processes train one model together, started by `accelerate launch` or `torchrun`.

The first process leads: it reads and writes files, and tells the other processes which trainings to run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from crosspatch.config import Finetune
from crosspatch.errors import UsageError

# The other processes wait while the leading process generates lessons or evaluates: hours with a large model.
_PATIENCE = timedelta(days=7)


def count() -> int:
    """Return how many processes train together; 1 unless a launcher started this process."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process leads and writes files."""
    return int(os.environ.get("RANK", "0")) == 0


def announce(job: Callable[[], None] | None, *, cpu: bool) -> None:
    """Send the other processes, if any, the next job; None ends them."""
    if count() > 1:
        _broadcast(job, cpu)


def train_along(*, cpu: bool) -> None:
    """In every process except the leading one, run each announced job until None is announced."""
    while (job := _broadcast(None, cpu)) is not None:
        job()


def wait(*, cpu: bool) -> None:
    """Wait until all processes reach this call."""
    if count() > 1:
        _state(cpu).wait_for_everyone()


def shared(settings: Finetune) -> tuple[int, int]:
    """Return (examples per forward pass, forward passes per step) for each process; a step keeps its total examples.

    Raises UsageError if the processes cannot share a step's examples equally.
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
        # Destroy the group now: at the end of Python this can abort the process (pytorch pull request 179291).
        state.destroy_process_group()
    return sent[0]


def _state(cpu: bool) -> Any:
    """Return the process group; the first call creates it."""
    from accelerate import PartialState

    return PartialState(cpu=cpu, timeout=_PATIENCE)
