"""File locks between processes; a lock is released when its process ends, also when it is killed.

The locks are filelock's: they work on Windows, and between machines if the file system supports it.
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

# Seconds between two attempts while a lock is waited for.
_PAUSE = 0.1


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock within the context: False where another one does. Never waits."""
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
    """Who holds a lock, in words; None if not known. The note of a process that was killed stays."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        return f"process {note['process']} on {note['host']}, since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock."""
    if not path.is_file():
        return False
    lock = FileLock(path, thread_local=False)
    free = _taken(lock)
    lock.release()
    return not free


def _taken(lock: FileLock) -> bool:
    """Take the lock if it is free; whether it was. On a file system without locks every process gets it."""
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
    # Not the lock's own file, which other processes cannot read on Windows.
    return path.with_name(f"{path.name}.holder")


@dataclass
class RunLock:
    """The lock of a run directory, for one process alone or for several that share the work of one stage.

    Each of several processes holds a lock with another name, which it takes while it briefly holds the run's lock.
    """

    root: Path
    # Releases the lock that is held alone.
    _held: ExitStack | None = None

    @property
    def path(self) -> Path:
        """The run's lock file, which the first command makes."""
        return self.root / ".lock"

    @contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[None]:
        """Hold the lock for one command; raises UsageError if another command holds it, or waits for it."""
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
        """Hold the lock as one of several processes; waits while another process works alone."""
        with ExitStack() as run, ExitStack() as own:
            self._take(run)
            self._join(own)
            run.close()
            yield

    @contextmanager
    def left_to_others(self) -> Iterator[None]:
        """Share a lock that this process holds alone; afterwards wait for the others and hold it alone again."""
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
        """Wait for the run's lock."""
        while not held.enter_context(locked(self.path)):
            time.sleep(_PAUSE)

    def _join(self, own: ExitStack) -> None:
        """Take one of the locks that several processes hold."""
        path = self.root / f".shared-{uuid4().hex}.lock"
        own.callback(remove_lock, path)
        own.enter_context(locked(path))

    def _shared(self) -> bool:
        """Whether other processes share the directory; removes the locks of processes that were killed."""
        held = {path: is_locked(path) for path in self.root.glob(".shared-*.lock")}
        for path, is_held in held.items():
            if not is_held:
                remove_lock(path)
        return any(held.values())
