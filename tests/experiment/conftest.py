"""Runs that several modules begin with, made once."""

import time
from pathlib import Path

import pytest

from commands import finished
from crosspatch import load_experiment, run_experiment
from sweeps import OPTIONS, SETTINGS, copy_of


@pytest.fixture(scope="session")
def ready(made_once) -> Path:
    """A sweep that is ready to begin: its models and problems are there."""
    return made_once("ready", lambda out: run_experiment(load_experiment("tiny", SETTINGS), out, "finetune"))


@pytest.fixture(scope="session")
def swept(made_once, ready) -> Path:
    """The sweep, done by one undisturbed command; beside it the seconds that it took."""

    def sweep(run: Path) -> None:
        log = run.parent / "swept.log"
        copy_of(ready, run)
        assert finished(log, "--version") == 0  # the first one waits for what all are forked from
        start = time.monotonic()
        options = (*OPTIONS, "--set", "execution.threads=1")
        assert finished(log, "patch", "tiny", "--out", run, *options) == 0, log.read_text()
        run.with_suffix(".seconds").write_text(str(time.monotonic() - start))

    return made_once("swept", sweep)
