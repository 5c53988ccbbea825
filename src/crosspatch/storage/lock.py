"""Locks on files, by which processes keep out of each other's way; one ends with its process, however that ends.

They are the system's (`flock`), so they hold between machines where the file system does.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from crosspatch.errors import UsageError

# Seconds between two looks where a lock is waited for.
_PAUSE = 0.1


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[IO[str] | None]:
    """The open file of a lock that is held within the context, or None where another process holds it. Never waits.

    Several processes may hold a `shared` lock at once, none beside one that is not. While it is held by one alone the
    file says by whom.
    """
    with path.open("a+", encoding="utf-8") as file:
        if not _lock(file, shared=shared):
            yield None
            return
        # A process that was killed has left its name.
        file.truncate(0)
        if not shared:
            _sign(file)
        try:
            yield file
        finally:
            file.truncate(0)


def holder(path: Path) -> str | None:
    """Who holds a lock alone, in words; None where nobody says so."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return f"process {said['process']} on {said['host']}, since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return not _lock(file, shared=True)


def _lock(file: IO[Any], *, shared: bool) -> bool:
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # A file system without locks keeps nobody out.
        if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise
    return True


def _sign(file: IO[str]) -> None:
    said = {"process": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat("T", "seconds")}
    file.write(json.dumps(said))
    file.flush()


@dataclass
class RunLock:
    """Who may work in a run directory: one process alone, or several that share one stage's work."""

    root: Path
    _file: IO[str] | None = None

    @property
    def path(self) -> Path:
        """Its file; a run directory has it from its first command on."""
        return self.root / ".lock"

    @contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[None]:
        """Held for a command that works in the directory; raises UsageError where another one does, or waits for it."""
        while True:
            with locked(self.path) as self._file:
                if self._file is not None:
                    yield
                    return
            if not wait:
                raise UsageError(
                    f"another command is working in {self.root} ({holder(self.path) or 'several processes'}); wait for "
                    "it to end, or give --out another folder"
                )
            time.sleep(_PAUSE)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Held by one of several processes; waits while somebody works alone."""
        while True:
            with locked(self.path, shared=True) as file:
                if file is not None:
                    yield
                    return
            time.sleep(_PAUSE)

    @contextmanager
    def left_to_others(self) -> Iterator[None]:
        """Within the context a lock held alone is held together with others, and alone again when they have ended."""
        if self._file is None:
            yield
            return
        fcntl.flock(self._file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_EX)
