"""Several processes that train one model together, as `accelerate launch` or `torchrun` start them.

The first one leads: it reads, writes and decides. The others only train along, with what it announces.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from crosspatch.config import Finetune
from crosspatch.errors import UsageError

_PATIENCE = timedelta(days=7)


def count() -> int:
    """How many processes train together; 1 unless a launcher started this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def announce(job: Any | None, *, cpu: bool) -> None:
    """Send the others what is trained next; None: nothing more, and they part. Nothing where there are none."""
    if count() > 1:
        _broadcast(job, cpu)


def announced(*, cpu: bool) -> Any | None:
    """Wait for what the leading process announces."""
    return _broadcast(None, cpu)


def wait(*, cpu: bool) -> None:
    """Wait until all processes have come here."""
    if count() > 1:
        _state(cpu).wait_for_everyone()


def shared(settings: Finetune) -> tuple[int, int]:
    """(examples in a forward pass, forward passes in a step) of each process, so that a step stays what it is.

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


def _broadcast(job: Any | None, cpu: bool) -> Any | None:
    from accelerate.utils import broadcast_object_list

    state = _state(cpu)
    sent = [job]
    broadcast_object_list(sent)
    if sent[0] is None:
        # A group that is left to the end of Python can abort a process there (pytorch pull request 179291).
        state.destroy_process_group()
    return sent[0]


def _state(cpu: bool) -> Any:
    """The group of processes; the first call makes it."""
    from accelerate import PartialState

    # While the leading process makes lessons or lets models answer, the others wait, for hours with a large model.
    return PartialState(cpu=cpu, timeout=_PATIENCE)
