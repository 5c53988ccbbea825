"""The command line in processes of its own, to be killed: forked from one that has imported everything.

What is shared with a user's command is all but the start of the interpreter.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

from crosspatch.experiment.executors.by_processes import PRELOADED

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*PRELOADED, "crosspatch.cli", "crosspatch.report.page", "crosspatch.training.sft"])


def started(log: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> ForkServerProcess:
    """A command that has been started, with more in its environment; what it prints goes into the log."""
    process = _context.Process(target=_run, args=(log, list(map(str, arguments)), dict(environment or {})))
    process.start()
    return process


def finished(log: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> int:
    """The exit code of a command that is run to its end; of one that was killed, the signal's number, negative."""
    return ended(started(log, *arguments, environment=environment))


def ended(process: ForkServerProcess, seconds: float = 300) -> int:
    """The exit code of a process that is to end by itself."""
    process.join(seconds)
    if (code := process.exitcode) is None:
        process.kill()
    assert code is not None, "the command does not end"
    return code


def killed(process: ForkServerProcess) -> bool:
    """Kill a process at once; whether it was still there."""
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something that has to come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def _run(log: Path, arguments: list[str], environment: dict[str, str]) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(environment, TQDM_DISABLE="1")
    # The command's own workers are forked from a server of its own, which is forked too.
    with mock.patch("multiprocessing.util.spawnv_passfds", _fork_server):
        forkserver.ensure_running()
    import sys

    from crosspatch.cli import main

    sys.argv = ["crosspatch", *arguments]
    main()


def _fork_server(_path: bytes, _arguments: list[str], descriptors: list[int]) -> int:
    """Fork the server that multiprocessing would start as a new interpreter, which imports everything for seconds."""
    if pid := os.fork():
        return pid
    try:
        for descriptor in {int(path.name) for path in Path("/dev/fd").iterdir()} - {0, 1, 2, *descriptors}:
            with suppress(OSError):
                os.close(descriptor)
        forkserver.main(*descriptors, [])
    finally:
        os._exit(0)
