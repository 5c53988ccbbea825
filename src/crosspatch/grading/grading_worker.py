"""Grading in a separate process, so no answer can hang the program: the process ends at the time limit.

The limit holds in any thread, and a script that grades needs no `if __name__ == "__main__"`: the worker is an
interpreter of its own that reads requests and writes grades, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import IO

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.grading.grading import Grade, Kind, grade

SECONDS = 5.0  # for one answer; the median takes a hundredth of one
COMMAND = (sys.executable, "-P", "-m", "crosspatch.grading.grading_worker")
_START = 120.0  # seconds in which a worker must have come up, its imports included


class GradingWorker:
    """Grades like `grading.grade`, each answer within `seconds`; one that takes longer is unparsed.

    A context manager. The process starts with the first answer and, if it was ended, again with the next answer.
    Threads may share a worker: they take turns.
    """

    def __init__(self, seconds: float = SECONDS, command: Sequence[str] = COMMAND) -> None:
        if seconds <= 0:
            raise UsageError(f"an answer cannot be graded in {seconds:g} seconds; give more than 0")
        self.seconds = seconds
        self._command = tuple(command)
        self._process: _Process | None = None
        self._turn = threading.Lock()

    def __enter__(self) -> GradingWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next answer starts a new one."""
        with self._turn:
            self._end()

    def grade(self, text: str, gold: str, aliases: Sequence[str] = (), kind: Kind | None = None) -> Grade:
        """Grade one answer; raises CrosspatchError if the worker does not start or stops by an error of its own."""
        request = {"text": text, "gold": gold, "aliases": list(aliases), "kind": kind, "seconds": self.seconds}
        with self._turn:
            if self._process is None:
                self._process = _Process.started(self._command)
            try:
                reply = self._process.ask(json.dumps(request), self.seconds)
            except BaseException:
                self._end()  # it may still run: its reply would be taken for the next answer's
                raise
            if reply is None:
                self._end()
                return Grade("unparsed", None)
            return Grade(**json.loads(reply))

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


@dataclass(frozen=True, eq=False)
class _Process:
    """A running worker. A thread reads its output, since not every platform can wait for a pipe with a timeout."""

    popen: subprocess.Popen[str]
    replies: queue.Queue[str | None] = field(default_factory=queue.Queue)

    @classmethod
    def started(cls, command: Sequence[str]) -> _Process:
        # The package is found where this process found it.
        path = os.pathsep.join(filter(None, sys.path))
        popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
        )
        process = cls(popen)
        assert popen.stdout is not None
        threading.Thread(target=_read, args=(popen.stdout, process.replies), daemon=True).start()
        weakref.finalize(process, _end, popen)
        try:
            up = process.replies.get(timeout=_START)
        except queue.Empty:
            up = None
        if up is None:
            process.end()
            raise CrosspatchError(f"the grading worker did not start: {' '.join(command)}")
        return process

    def ask(self, request: str, seconds: float) -> str | None:
        """The worker's reply; None after the time limit, or if the worker has ended."""
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(request + "\n")
            self.popen.stdin.flush()
            reply = self.replies.get(timeout=seconds)
        except (queue.Empty, BrokenPipeError):
            return None
        if reply is None and (code := self.popen.wait()) > 0:
            raise CrosspatchError(f"the grading worker stopped with exit code {code}; its output is above")
        return reply

    def end(self) -> None:
        _end(self.popen)


def _end(popen: subprocess.Popen[str]) -> None:
    popen.kill()
    popen.wait()
    if popen.stdin is not None:
        with suppress(BrokenPipeError):  # of a request that was never read
            popen.stdin.close()


def _read(pipe: IO[str], replies: queue.Queue[str | None]) -> None:
    with pipe:
        for line in pipe:
            replies.put(line)
    replies.put(None)


def serve() -> None:
    """The worker's loop: report that it runs, then grade line by line to the end of the input."""
    replies, sys.stdout = sys.stdout, sys.stderr  # only grades may be written to the output
    print("up", file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        seconds = request.pop("seconds")
        _end_soon(seconds + 1)  # also if the parent has ended
        reply = json.dumps(asdict(grade(**request)))
        _end_soon(0)
        print(reply, file=replies, flush=True)


def _end_soon(seconds: float) -> None:
    """End this process after some seconds by the system's clock, even while Python is busy; 0 cancels it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    serve()
