"""What can go wrong while a sweep goes on, done for real: nothing is lost, and nothing differs afterwards.

The table of docs/reliability.md is that of these tests.
"""

from __future__ import annotations

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
from sweeps import OPTIONS, contents, copy_of, half_written, left_behind

KILLS = int(os.environ.get("CROSSPATCH_KILLS", "8"))
COMMAND = ("patch", "tiny", *OPTIONS, "--set", "execution.threads=1")


@pytest.fixture(scope="module")
def undisturbed(swept):
    """The bytes that an uninterrupted sweep leaves, and about how many seconds it takes."""
    return contents(swept), float(swept.with_suffix(".seconds").read_text())


def done(run: Path) -> int:
    return sum(len(shards) - len(shards.left()) for stage in ("patch", "controls") if (shards := Shards(run, stage)))


def test_the_driver_is_killed_at_random_moments(ready, undisturbed, tmp_path):
    expected, seconds = undisturbed
    chance, run, log, kills = random.Random(0), copy_of(ready, tmp_path / "run"), tmp_path / "log", 0
    while kills < KILLS:
        command = started(log, *COMMAND, "--out", run)
        time.sleep(chance.uniform(0, seconds / 2))
        kills += killed(command)
        assert not is_locked(run / ".lock")
        if not Shards(run, "controls").left() and (run / "controls").exists():
            # It got to its end between two kills: what it left is held to what is expected, and it begins anew.
            assert finished(log, *COMMAND, "--out", run) == 0, log.read_text()
            assert contents(run) == expected
            shutil.rmtree(run)
            copy_of(ready, run)
    assert finished(log, *COMMAND, "--out", run) == 0, log.read_text()
    assert contents(run) == expected
    assert not left_behind(run)


def test_workers_are_killed_at_random_moments(ready, undisturbed, tmp_path):
    expected, seconds = undisturbed
    chance, run, log = random.Random(1), copy_of(ready, tmp_path / "run"), tmp_path / "log"
    # A kill counts as a try of the shard that it hits, and there are more kills here than tries by default.
    options = ("--workers", 2, "--set", f"execution.tries={KILLS + 1}")
    while kills_in(log) < KILLS:
        shutil.rmtree(run)
        copy_of(ready, run)
        command = started(log, *COMMAND, *options, "--out", run)
        while command.is_alive() and kills_in(log) < KILLS:
            time.sleep(chance.uniform(0, seconds / 8))
            if at_work(run) and (workers := workers_of(command)):
                was_killed(chance.choice(workers))
        assert ended(command) == 0, log.read_text()
        assert contents(run) == expected
    assert not left_behind(run)


def kills_in(log: Path) -> int:
    """How many workers were killed, by the log."""
    return log.read_text().count("ended with signal 9") if log.exists() else 0


def workers_of(command: ForkServerProcess) -> list[int]:
    """The worker processes of a command, which are forked from a server of its own."""
    with suppress(psutil.Error):
        return [worker.pid for server in psutil.Process(command.pid).children() for worker in server.children()]
    return []


def alive(process: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


def at_work(run: Path) -> bool:
    """Whether some shard is being computed."""
    return any(is_locked(path) for path in run.glob("shards/*/*.lock"))


def was_killed(process: int) -> bool:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def test_what_a_killed_process_was_writing_is_removed(ready, tmp_path):
    run, log = copy_of(ready, tmp_path / "run"), tmp_path / "log"
    killed_writer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    killed_writer.kill()
    killed_writer.wait()
    (run / "scores").mkdir()
    dead = [
        run / "scores" / f".part-00001.parquet.{killed_writer.pid}.partial",
        run / f".run.json.{killed_writer.pid}.partial",
    ]
    alive = run / f".report.html.{os.getpid()}.partial"
    for path in (*dead, alive):
        path.touch()
    assert finished(log, *COMMAND, "--out", run) == 0, log.read_text()
    assert half_written(run) == [str(alive)]


def test_workers_end_with_a_driver_that_is_killed(ready, tmp_path):
    run, log = copy_of(ready, tmp_path / "run"), tmp_path / "log"
    command = started(log, *COMMAND, "--workers", 2, "--out", run)
    until(lambda: at_work(run) and len(workers_of(command)) == 2)
    workers = workers_of(command)
    assert killed(command)
    until(lambda: not any(alive(worker) for worker in workers))
    assert not at_work(run)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_ends_it_with_finished_parts_kept(ready, undisturbed, tmp_path, number, workers):
    run, log = copy_of(ready, tmp_path / "run"), tmp_path / "log"
    command = started(log, *COMMAND, "--workers", workers, "--out", run)
    until(lambda: done(run) >= 2)
    os.kill(command.pid, number)
    assert ended(command, seconds=20) == 130
    assert "stopped; the same command goes on where it was" in log.read_text().splitlines()[-1]
    kept = done(run)
    assert kept >= 2
    assert not at_work(run)
    assert RunDirectory.existing(run).record()["stages"]["patch"]["state"] == "stopped"
    before = {path: path.stat().st_mtime_ns for path in (run / "scores").iterdir()}
    assert finished(log, *COMMAND, "--out", run) == 0, log.read_text()
    assert contents(run) == undisturbed[0]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_second_command_in_the_same_directory_is_refused(ready, undisturbed, tmp_path):
    run, log, second = copy_of(ready, tmp_path / "run"), tmp_path / "log", tmp_path / "second"
    command = started(log, *COMMAND, "--out", run)
    until(lambda: done(run) >= 1)
    assert finished(second, *COMMAND, "--out", run) == 2
    assert f"another command is working in {run} (process {command.pid} on " in second.read_text()
    assert ended(command) == 0
    assert contents(run) == undisturbed[0]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="a small file system is mounted by root")
def test_a_full_disk_is_one_line_and_costs_what_was_under_way(ready, undisturbed, tmp_path):
    small, log = tmp_path / "small", tmp_path / "log"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "crosspatch-test", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        run = copy_of(ready, small / "run")
        room = shutil.disk_usage(small).free
        filler = small / "filler"
        filler.write_bytes(b"\0" * (room - 60_000))
        assert finished(log, *COMMAND, "--out", run) == 1
        assert "No space left on device" in log.read_text().splitlines()[-1]
        kept = done(run)
        assert 0 < kept < 18
        assert not half_written(run)
        filler.unlink()
        assert finished(log, *COMMAND, "--out", run) == 0, log.read_text()
        assert contents(run) == undisturbed[0]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def harm(part: Path, how: str) -> None:
    """Cut a file short, flip a bit in its middle, or remove it."""
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 4
    part.write_bytes(content[:100] if how == "truncated" else content)
    if how == "gone":
        part.unlink()


def test_damaged_parts_are_noticed_said_and_made_again(swept, undisturbed, tmp_path):
    run, log = copy_of(swept, tmp_path / "run"), tmp_path / "log"
    harmed = {"part-00003.parquet": "gone", "part-00007.parquet": "truncated", "part-00008.parquet": "flipped"}
    for name, how in harmed.items():
        harm(run / "scores" / name, how)
        harm(run / "controls" / "random" / name, how)
    assert finished(tmp_path / "status", "status", run) == 0
    said = (tmp_path / "status").read_text()
    assert all(f"patch: {run / 'scores' / name} is" in said for name in harmed)
    assert finished(log, *COMMAND, "--out", run) == 0, log.read_text()
    assert " ".join(log.read_text().split()).count("it is made again") == 6
    assert contents(run) == undisturbed[0]


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_who_only_reads_a_damaged_part_is_told(swept, tmp_path, cli, how):
    run = copy_of(swept, tmp_path / "run")
    harm(run / "scores" / "part-00007.parquet", how)
    code, _, err = cli("report", run)
    assert code == 1
    assert "part-00007.parquet is damaged" in err.splitlines()[-1]


def test_a_shard_that_always_fails_is_listed_while_the_others_finish(ready, undisturbed, tmp_path):
    run, log = copy_of(ready, tmp_path / "run"), tmp_path / "log"
    # Where the fifth shard's part should go stands a folder.
    obstacle = run / "scores" / "part-00004.parquet"
    obstacle.mkdir(parents=True)
    assert finished(log, *COMMAND, "--out", run) == 1
    assert "patch: 1 of 18 shards failed, 3 tries each; shard 4: IsADirectoryError" in log.read_text().splitlines()[-1]
    assert Shards(run, "patch").left() == [4]
    assert finished(tmp_path / "status", "status", run) == 0
    assert "shard 4 failed, 3 tries: IsADirectoryError" in (tmp_path / "status").read_text()
    obstacle.rmdir()
    assert finished(log, *COMMAND, "--out", run) == 0, log.read_text()
    assert contents(run) == undisturbed[0]


def test_clock_locale_and_file_order_do_not_matter(ready, undisturbed, tmp_path, monkeypatch):
    run = tmp_path / "run"
    # The same files, made in the opposite order and long ago.
    for path in sorted(ready.rglob("*"), reverse=True):
        if path.is_file():
            copy = run / path.relative_to(ready)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            os.utime(copy, (1, 1))
    other = {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "77"}
    for name, value in other.items():
        monkeypatch.setenv(name, value)
    entry = "import time; from crosspatch.cli import main; time.time = lambda: 1e8; main()"
    command = [sys.executable, "-c", entry, *map(str, COMMAND), "--out", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(run) == undisturbed[0]


def test_what_is_compared_would_show_a_difference(swept, undisturbed, tmp_path):
    run = copy_of(swept, tmp_path / "run")
    part = run / "scores" / "part-00000.parquet"
    changed = pl.read_parquet(part).with_columns(pl.col("delta_clean") + 1e-6)
    changed.write_parquet(part)
    assert contents(run) != undisturbed[0]
    assert contents(run).keys() == undisturbed[0].keys()
