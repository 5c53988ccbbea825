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
from dataclasses import asdict
from typing import IO

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.grading.grading import Grade, Kind, grade

SECONDS = 5.0  # per answer; the median answer takes two milliseconds
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
        self._process: subprocess.Popen[str] | None = None
        # A thread reads the process's output, as some platforms cannot wait for a pipe with a timeout.
        self._replies: queue.Queue[str | None] = queue.Queue()
        self._turn = threading.Lock()

    def __enter__(self) -> GradingWorker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next answer starts a new one."""
        with self._turn:
            self._end()

    def grade(self, text: str, gold: str, aliases: Sequence[str] = (), kind: Kind | None = None) -> Grade:
        """Grade one answer; raises CrosspatchError if the worker does not start or fails with an error."""
        request = {"text": text, "gold": gold, "aliases": list(aliases), "kind": kind, "seconds": self.seconds}
        with self._turn:
            try:
                reply = self._ask(self._process or self._started(), json.dumps(request))
            except BaseException:
                self._end()  # otherwise its late reply would be read as the reply for the next answer
                raise
            if reply is None:
                self._end()
                return Grade("unparsed", None, "time limit")
            return Grade(**json.loads(reply))

    def _started(self) -> subprocess.Popen[str]:
        # The worker imports the package from the same place as this process.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        pipe = subprocess.PIPE
        process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8", env=environment)
        self._process, self._replies = process, queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, self._replies), daemon=True).start()
        weakref.finalize(self, _end, process)
        with suppress(queue.Empty):
            if self._replies.get(timeout=_START) is not None:
                return process
        raise CrosspatchError(f"the grading worker did not start: {' '.join(self._command)}")

    def _ask(self, process: subprocess.Popen[str], request: str) -> str | None:
        """Return the worker's reply; None after the time limit, or if the worker was killed."""
        assert process.stdin is not None
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            reply = self._replies.get(timeout=self.seconds)
        except (queue.Empty, BrokenPipeError):
            return None
        if reply is None and (code := process.wait()) > 0:
            raise CrosspatchError(f"the grading worker stopped with exit code {code}; its output is above")
        return reply

    def _end(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # if a request was never read
            process.stdin.close()


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
