"""Shared fixtures: tiny random pairs, made once, and shape checking of the engine and what is built on it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # A core for each worker: threads of several would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
from filelock import FileLock

from shapes import checked_shapes, make_checkable

# Before anything of the folders is imported.
make_checkable("crosspatch.patching", "crosspatch.analysis")

from crosspatch.models.pair import ModelPair
from pairs import ARCHITECTURES, make_pair

# Tests never time anything.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests come first, so no worker is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Shapes in annotations are checked in the fast tests of the engine and of what is built on it, and their setup."""
    fast = not item.get_closest_marker("slow")
    with checked_shapes() if fast and item.path.parent.name in {"patching", "analysis"} else nullcontext():
        return (yield)


@pytest.fixture(scope="session", params=ARCHITECTURES)
def pair(request) -> ModelPair:
    """A tiny pair of each architecture."""
    return make_pair(request.param)


@pytest.fixture(scope="session")
def qwen3_pair() -> ModelPair:
    return make_pair("qwen3")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder once for all workers: whoever asks for it second waits for the first. Nobody changes it after."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made_once"
    root.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        finished = root / f"{name}.finished"
        with FileLock(root / f"{name}.lock"):
            if not finished.exists():
                shutil.rmtree(root / name, ignore_errors=True)
                make(root / name)
                finished.touch()
        return root / name

    return folder


@pytest.fixture
def log(caplog):
    """What the package logs, progress too: caplog with its messages."""
    caplog.set_level("INFO", logger="crosspatch")
    return caplog


@pytest.fixture
def unpainted(monkeypatch) -> None:
    """Figures are drawn but not turned into pixels: their files hold the options, with the metadata, as text."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda _, path, **how: Path(path).write_text(str(how)))


class Ended(NamedTuple):
    """A command that has ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run the command line in this process; where an exit code is given, it must end with that."""
    from crosspatch.cli import main

    def run(*arguments: object, code: int | None = None) -> Ended:
        monkeypatch.setattr("sys.argv", ["crosspatch", *map(str, arguments)])
        try:
            main()
            found = 0
        except SystemExit as leave:
            found = int(leave.code or 0)
        ended = Ended(found, *capsys.readouterr())
        assert code in (None, ended.code), ended.err
        return ended

    return run
