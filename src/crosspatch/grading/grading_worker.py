"""Grades in a separate process, which is ended at a time limit, so no answer can block the program.

The limit works in any thread, and a script that grades needs no `if __name__ == "__main__"`: the worker is a
separate Python interpreter that reads requests and writes grades, one JSON object per line.
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

SECONDS = 5.0  # per answer; the median answer takes a hundredth of a second
COMMAND = (sys.executable, "-P", "-m", "crosspatch.grading.grading_worker")
_START = 120.0  # seconds within which a worker must start, imports included


class GradingWorker:
    """Grades like `grading.grade`, with a limit of `seconds` per answer; an answer that takes longer is unparsed.

    A context manager. The process starts with the first answer, and starts again if it was ended. Several threads may
    share a worker, which grades one answer at a time.
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
        """Grade one answer; raises CrosspatchError if the worker does not start or fails with an error."""
        request = {"text": text, "gold": gold, "aliases": list(aliases), "kind": kind, "seconds": self.seconds}
        with self._turn:
            if self._process is None:
                self._process = _Process.started(self._command)
            try:
                reply = self._process.ask(json.dumps(request), self.seconds)
            except BaseException:
                self._end()  # otherwise its late reply would be read as the reply for the next answer
                raise
            if reply is None:
                self._end()
                return Grade("unparsed", None, "time limit")
            return Grade(**json.loads(reply))

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


@dataclass(frozen=True, eq=False)
class _Process:
    """A running worker. A thread reads its output, as some platforms cannot wait for a pipe with a timeout."""

    popen: subprocess.Popen[str]
    replies: queue.Queue[str | None] = field(default_factory=queue.Queue)

    @classmethod
    def started(cls, command: Sequence[str]) -> _Process:
        # The worker imports the package from the same place as this process.
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
        """Return the worker's reply; None after the time limit, or if the worker has ended."""
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
        with suppress(BrokenPipeError):  # if a request was never read
            popen.stdin.close()


def _read(pipe: IO[str], replies: queue.Queue[str | None]) -> None:
    with pipe:
        for line in pipe:
            replies.put(line)
    replies.put(None)


def serve() -> None:
    """Run the worker's loop: report the start, then grade each line until the input ends."""
    replies, sys.stdout = sys.stdout, sys.stderr  # only grades may be written to the output
    print("up", file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        seconds = request.pop("seconds")
        _end_soon(seconds + 1)  # ends this process even if the parent has ended
        reply = json.dumps(asdict(grade(**request)))
        _end_soon(0)
        print(reply, file=replies, flush=True)


def _end_soon(seconds: float) -> None:
    """End this process after some seconds of wall-clock time, even while Python is busy; 0 cancels the timer."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    serve()
