"""Faults during a sweep, caused for real: nothing is lost, and the results are the same afterwards.

docs/reliability.md lists these tests in a table.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import polars as pl
import psutil
import pytest

from commands import ended, finished, killed, started, until
from crosspatch.storage.lock import is_locked
from crosspatch.storage.run import RunDirectory
from crosspatch.storage.shards import Shards
from sweeps import OPTIONS, contents, copy_of, left_behind

KILLS = int(os.environ.get("CROSSPATCH_KILLS", "8"))
COMMAND = ("patch", "tiny", *OPTIONS, "--set", "execution.threads=1")


@pytest.fixture(scope="module")
def undisturbed(swept) -> dict[str, bytes]:
    """The bytes that an uninterrupted sweep leaves."""
    return contents(swept)


@pytest.fixture
def run(ready, tmp_path) -> Path:
    return copy_of(ready, tmp_path / "run")


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "log"


def is_completed(run: Path, log: Path, undisturbed: dict[str, bytes]) -> bool:
    """Whether the same command completes a run with the bytes of an undisturbed one."""
    assert finished(log, *COMMAND, "--out", run) == 0, log.read_text()
    return contents(run) == undisturbed


def done(run: Path) -> int:
    return sum(len(shards) - len(shards.left()) for stage in ("patch", "controls") if (shards := Shards(run, stage)))


def test_the_driver_is_killed_at_random_moments(ready, swept, run, log, undisturbed):
    chance, kills, seconds = random.Random(0), 0, float(swept.with_suffix(".seconds").read_text())
    while kills < KILLS:
        command = started(log, *COMMAND, "--out", run)
        time.sleep(chance.uniform(0, seconds / 2))
        kills += killed(command)
        assert not is_locked(run / ".lock")
        if not Shards(run, "controls").left() and (run / "controls").exists():
            # The sweep was completed between two kills: a new one begins.
            assert is_completed(run, log, undisturbed)
            shutil.rmtree(run)
            copy_of(ready, run)
    assert is_completed(run, log, undisturbed)
    assert not left_behind(run)


def test_workers_are_killed_at_random_moments(ready, swept, run, log, undisturbed):
    chance, seconds = random.Random(1), float(swept.with_suffix(".seconds").read_text())
    # A kill counts as a try of the shard that it hits.
    options = ("--workers", 2, "--set", f"execution.tries={KILLS + 1}")

    def kills() -> int:
        return log.read_text().count("ended with signal 9") if log.exists() else 0

    while kills() < KILLS:
        shutil.rmtree(run)
        copy_of(ready, run)
        command = started(log, *COMMAND, *options, "--out", run)
        while command.is_alive() and kills() < KILLS:
            time.sleep(chance.uniform(0, seconds / 8))
            if at_work(run) and (workers := workers_of(command)):
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
        assert ended(command) == 0, log.read_text()
        assert contents(run) == undisturbed
    assert not left_behind(run)


def workers_of(command: ForkServerProcess) -> list[int]:
    """The worker processes of a command, which are forked from a server of its own."""
    with suppress(psutil.Error):
        return [worker.pid for server in psutil.Process(command.pid).children() for worker in server.children()]
    return []


def at_work(run: Path) -> bool:
    return any(is_locked(path) for path in run.glob("shards/*/*.lock"))


def test_what_a_killed_process_was_writing_is_removed_and_a_difference_would_show(swept, log, undisturbed, tmp_path):
    run = copy_of(swept, tmp_path / "run")
    writer = subprocess.Popen(["sleep", "600"])
    writer.kill()
    writer.wait()
    alive = run / f".report.html.{os.getpid()}.partial"
    dead = (run / "scores" / f".part-00001.parquet.{writer.pid}.partial", run / f".run.json.{writer.pid}.partial")
    for path in (*dead, alive):
        path.touch()
    assert is_completed(run, log, undisturbed)
    assert left_behind(run, "*partial") == [str(alive)]
    part = run / "scores" / "part-00000.parquet"
    pl.read_parquet(part).with_columns(pl.col("delta_clean") + 1e-6).write_parquet(part)
    assert contents(run) != undisturbed
    assert contents(run).keys() == undisturbed.keys()


def test_workers_end_with_a_driver_that_is_killed(run, log):
    command = started(log, *COMMAND, "--workers", 2, "--out", run)
    until(lambda: at_work(run) and len(workers_of(command)) == 2)
    workers = workers_of(command)
    assert killed(command)

    def alive(worker: int) -> bool:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(worker).status() != psutil.STATUS_ZOMBIE
        return False

    until(lambda: not any(map(alive, workers)))
    assert not at_work(run)


def test_signals_end_it_with_finished_parts_kept(run, log, undisturbed, tmp_path):
    second, before = tmp_path / "second", {}
    for number, workers in ((signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)):
        kept = done(run)
        command = started(log, *COMMAND, "--workers", workers, "--out", run)
        until(lambda kept=kept: done(run) >= kept + 2)
        if workers == 2:
            # Meanwhile a second command in the same directory is refused.
            os.kill(command.pid, signal.SIGSTOP)
            assert finished(second, *COMMAND, "--out", run) == 2
            assert f"another command is working in {run} (process {command.pid} on " in second.read_text()
            os.kill(command.pid, signal.SIGCONT)
        os.kill(command.pid, number)
        assert ended(command, seconds=20) == 130
        assert "stopped; the same command resumes" in log.read_text().splitlines()[-1]
        assert done(run) >= kept + 2
        assert not at_work(run)
        assert RunDirectory.existing(run).record()["stages"]["patch"]["state"] == "stopped"
        assert {path: path.stat().st_mtime_ns for path in before} == before
        before = {path: path.stat().st_mtime_ns for path in (run / "scores").iterdir()}
    assert is_completed(run, log, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="a small file system is mounted by root")
def test_a_full_disk_is_one_line_and_costs_what_was_under_way(ready, log, undisturbed, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "crosspatch-test", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        run, filler = copy_of(ready, small / "run"), small / "filler"
        filler.write_bytes(b"\0" * (shutil.disk_usage(small).free - 60_000))
        assert finished(log, *COMMAND, "--out", run) == 1
        assert "No space left on device" in log.read_text().splitlines()[-1]
        assert 0 < done(run) < 12
        assert not left_behind(run, "*partial")
        filler.unlink()
        assert is_completed(run, log, undisturbed)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_damaged_parts_are_made_again_and_one_that_always_fails_is_listed(swept, log, undisturbed, tmp_path, cli):
    run, status = copy_of(swept, tmp_path / "run"), tmp_path / "status"
    for number, how in ((8, "gone"), (7, "flipped"), (3, "truncated")):
        for name in (f"scores/part-{number:05d}.parquet", f"controls/random/part-{number % 6:05d}.parquet"):
            part = run / name
            content = bytearray(part.read_bytes())
            content[len(content) // 2] ^= 4
            part.unlink() if how == "gone" else part.write_bytes(content[:100] if how == "truncated" else content)
        if how != "gone":
            assert f"part-{number:05d}.parquet is damaged" in cli("report", run, code=1).err.splitlines()[-1]
    # Where the fifth shard's part should go stands a folder.
    obstacle = run / "scores" / "part-00004.parquet"
    obstacle.unlink()
    obstacle.mkdir()
    assert finished(status, "status", run) == 0
    changed, missing = "has changed since it was written", "is missing"
    for number, fault in ((3, changed), (4, missing), (7, changed), (8, missing)):
        assert f"patch: {run / 'scores' / f'part-{number:05d}.parquet'} {fault}" in status.read_text()
    assert finished(log, *COMMAND, "--out", run) == 1
    assert "patch: 1 of 12 shards failed, 3 tries each; shard 4: IsADirectoryError" in log.read_text().splitlines()[-1]
    assert Shards(run, "patch").left() == [4]
    assert finished(status, "status", run) == 0
    assert "shard 4 failed, 3 tries: IsADirectoryError" in status.read_text()
    obstacle.rmdir()
    assert is_completed(run, log, undisturbed)
    assert " ".join(log.read_text().split()).count("it is computed again") == 7


def test_clock_locale_and_file_order_do_not_matter(ready, undisturbed, tmp_path):
    run = tmp_path / "run"
    # The same files, made in the opposite order and long ago.
    for path in sorted(filter(Path.is_file, ready.rglob("*")), reverse=True):
        copy = run / path.relative_to(ready)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        os.utime(copy, (1, 1))
    other = {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "77"}
    entry = "import time; from crosspatch.cli import main; time.time = lambda: 1e8; main()"
    command = [sys.executable, "-c", entry, *COMMAND, "--out", run]
    done = subprocess.run(command, env={**os.environ, **other}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(run) == undisturbed
