"""File locks between processes; a lock is released when its process ends, even if the process is killed.

The locks are those of the package filelock: they work on Windows, and between machines if the file system supports it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from crosspatch.errors import UsageError
from crosspatch.storage.record import now

# Seconds between two attempts to take a lock.
_PAUSE = 0.1


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Try to take the lock for the context, without waiting; yield False if another process holds it."""
    lock = FileLock(path, thread_local=False)
    if not _taken(lock):
        yield False
        return
    note = {"process": os.getpid(), "host": socket.gethostname(), "since": now()}
    _note(path).write_text(json.dumps(note), encoding="utf-8")
    try:
        yield True
    finally:
        _note(path).unlink(missing_ok=True)
        lock.release()


def holder(path: Path) -> str | None:
    """Describe the process that holds a lock; None if unknown. A killed process leaves its description behind."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        return f"process {note['process']} on {note['host']}, since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_locked(path: Path) -> bool:
    """Whether any process holds the lock."""
    if not path.is_file():
        return False
    lock = FileLock(path, thread_local=False)
    free = _taken(lock)
    lock.release()
    return not free


def _taken(lock: FileLock) -> bool:
    """Take the lock and return True if it is free. On a file system without locks every process gets the lock."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP}:
            raise
    return True


def remove_lock(path: Path) -> None:
    """Remove the files of a lock that no process holds."""
    for file in (path, _note(path)):
        # On Windows a file that another process has open cannot be removed; a later process removes it.
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _note(path: Path) -> Path:
    # The description needs its own file: on Windows other processes cannot read the lock file.
    return path.with_name(f"{path.name}.holder")


@dataclass
class RunLock:
    """The lock of a run directory: exclusive for one process, or shared by several processes that compute one stage.

    Each process that shares the lock holds a lock file with its own name, created while it briefly holds the run lock.
    """

    root: Path
    # Releases the exclusive lock.
    _held: ExitStack | None = None

    @property
    def path(self) -> Path:
        """The run's lock file, which the first command creates."""
        return self.root / ".lock"

    @contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[None]:
        """Hold the lock exclusively for one command; if another command holds it, wait or raise UsageError."""
        with ExitStack() as held:
            while not held.enter_context(locked(self.path)) or self._shared():
                held.close()
                if not wait:
                    raise UsageError(
                        f"another command is working in {self.root} ({holder(self.path) or 'several processes'}); wait "
                        "for it to end, or give --out another folder"
                    )
                time.sleep(_PAUSE)
            self._held = held
            try:
                yield
            finally:
                self._held = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Share the lock with other processes; wait while another process holds it exclusively."""
        with ExitStack() as run, ExitStack() as own:
            self._take(run)
            self._join(own)
            run.close()
            yield

    @contextmanager
    def left_to_others(self) -> Iterator[None]:
        """Share the exclusive lock of this process within the context; then wait until it is exclusive again."""
        if self._held is None:
            yield
            return
        with ExitStack() as own:
            self._join(own)
            self._held.close()
            try:
                yield
            finally:
                self._take(self._held)
                own.close()
                while self._shared():
                    time.sleep(_PAUSE)

    def _take(self, held: ExitStack) -> None:
        """Wait for the run's lock and take it."""
        while not held.enter_context(locked(self.path)):
            time.sleep(_PAUSE)

    def _join(self, own: ExitStack) -> None:
        """Take a lock file of this process's own, as one of the processes that share the run's lock."""
        path = self.root / f".shared-{uuid4().hex}.lock"
        own.callback(remove_lock, path)
        own.enter_context(locked(path))

    def _shared(self) -> bool:
        """Whether other processes share the lock; removes the lock files of killed processes."""
        held = {path: is_locked(path) for path in self.root.glob(".shared-*.lock")}
        for path, is_held in held.items():
            if not is_held:
                remove_lock(path)
        return any(held.values())
