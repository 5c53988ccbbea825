"""Every executor computes the same bytes, if each of its workers has as many threads."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from commands import ended, finished, started, until
from crosspatch import load_experiment, run_experiment
from crosspatch.errors import UsageError
from crosspatch.experiment import executors
from crosspatch.experiment.executors import by_slurm as by_slurm_module
from crosspatch.experiment.executors.by_processes import PRELOADED
from crosspatch.experiment.executors.by_slurm import by_slurm
from crosspatch.experiment.patching import PatchStage
from crosspatch.experiment.run_context import RunContext
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import SCORES
from sweeps import OPTIONS, SETTINGS, contents, copy_of, left_behind

TWO = ("execution.workers=2", "execution.threads=1")


def test_what_workers_preload_is_there():
    assert all(find_spec(name) for name in PRELOADED)


def test_another_cut_gives_the_same_tokens_and_nearly_the_same_numbers(swept, tmp_path):
    experiment = load_experiment("tiny", [*SETTINGS, "patch.shard_rows=24"])
    one, other = run_experiment(experiment, tmp_path / "run", "patch").read(SCORES), RunDirectory(swept).read(SCORES)
    assert len(list((tmp_path / "run" / "scores").iterdir())) == 1
    assert one["token_id"].equals(other["token_id"])
    assert (one["delta_patched"] - other["delta_patched"]).abs().max() < 1e-4


def test_slices_by_commands_at_the_same_time_and_the_rest_by_two_processes_give_the_same(ready, swept, tmp_path):
    alone, run, log = copy_of(swept, tmp_path / "alone"), copy_of(ready, tmp_path / "run"), tmp_path / "log"

    def command(out: Path, stage: str, *options: object) -> int:
        return finished(log, stage, "tiny", "--out", out, *OPTIONS, *options)

    assert command(alone, "score-mistakes") == 0, log.read_text()
    with ThreadPoolExecutor() as threads:
        slices = [threads.submit(command, run, "patch", "--shard", f"{number}/3") for number in (1, 3)]
    assert [slice_.result() for slice_ in slices] == [0, 0], log.read_text()
    assert not (run / "vocabulary.parquet").exists()
    for stage in ("patch", "score-mistakes"):
        assert command(run, stage, "--set", TWO[0], "--set", TWO[1]) == 0, log.read_text()
    assert contents(run) == contents(alone)
    assert not left_behind(run)
    # The record has the models that workers loaded, though workers do not write it.
    facts = RunDirectory.existing(run).record()["models"]
    assert facts == RunDirectory.existing(alone).record()["models"]
    assert facts["clean"]["fingerprint"] != facts["corrupted"]["fingerprint"]
    # There is a part for each shard, with rows in the stated order.
    assert len(list((run / "scores").iterdir())) == 12
    prompts = list(RunDirectory(run).asked())
    keys = RunDirectory(run).read(SCORES).select("prompt_id", "layer", "step").rows()
    assert keys == sorted(keys, key=lambda key: (prompts.index(key[0]), *key[1:]))
    assert len({prompt for prompt, *_ in keys}) == 6


@pytest.mark.slow
def test_two_actors_of_ray_give_the_same_and_one_that_is_killed_is_replaced(ready, swept, tmp_path):
    """Patching alone: other stages have shards too, and Ray's start takes longest."""
    pytest.importorskip("ray")
    run, log = copy_of(ready, tmp_path / "run"), tmp_path / "log"
    options = ("--set", TWO[0], "--set", TWO[1], "--set", "execution.executor=ray")
    # Ray's workers would wait for all other tests.
    command = started(log, "patch", "tiny", "--out", run, *OPTIONS, *options, environment={"RAY_worker_niceness": "0"})

    def kills_an_actor_at_work() -> bool:
        # Ray's processes come and go meanwhile.
        with suppress(psutil.Error):
            for process in psutil.Process(command.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if process.name().startswith("ray::Worker.do"):
                        process.kill()
                        return True
        return not command.is_alive()

    until(kills_an_actor_at_work, seconds=300)
    assert ended(command) == 0, log.read_text()
    assert " ".join(log.read_text().split()).count("failed, try 1: the process that computed it was killed") == 1
    run_experiment(load_experiment("tiny", SETTINGS), run, "controls")
    assert contents(run) == contents(swept)
    assert not left_behind(run)


def test_jobs_give_the_same(ready, swept, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    run = copy_of(ready, tmp_path / "run")
    # Without SLURM submitit runs the jobs as processes. Each starts an interpreter, which takes seconds, so they do the
    # shards of one stage alone.
    monkeypatch.setattr(executors, "executor", lambda settings: partial(by_slurm, cluster="local"))
    run_experiment(load_experiment("tiny", [*SETTINGS, *TWO]), run, "patch")
    monkeypatch.undo()
    run_experiment(load_experiment("tiny", SETTINGS), run, "controls")
    assert contents(run) == contents(swept)


def test_a_missing_package_or_cluster_is_one_line_and_parameters_of_jobs_are_submitits(monkeypatch, ready, tmp_path):
    run = copy_of(ready, tmp_path / "run")

    def is_refused(executor: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            run_experiment(load_experiment("tiny", [*SETTINGS, f"execution.executor={executor}"]), run, "patch")

    for executor, missing in (("ray", "ray"), ("slurm", "submitit")):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, missing, None)
            is_refused(executor, f"(?i)needs {missing}.*pip install")
    submitit = pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    is_refused("slurm", "SLURM cannot be reached from here")

    def jobs(slurm: str):
        experiment = load_experiment("tiny", [f"execution.slurm={slurm}"])
        stage = PatchStage(RunContext(experiment, RunDirectory(tmp_path)))
        return by_slurm_module.submitter(submitit, stage, experiment.execution, "local").parameters

    assert jobs("{}")["timeout_min"] == by_slurm_module.MINUTES
    assert jobs("{timeout_min: 60}")["timeout_min"] == 60
    with pytest.raises(UsageError, match=r"execution\.slurm: .*walltime"):
        jobs("{walltime: 60}")


def test_wrong_use_in_a_worker_ends_the_command_with_its_line(ready, tmp_path):
    run, log = copy_of(ready, tmp_path / "run"), tmp_path / "log"
    (run / "models" / "corrupted" / "model.safetensors").write_bytes(b"x")
    assert finished(log, "patch", "tiny", "--out", run, *OPTIONS, "--workers", 2) == 2
    assert "could not be read" in log.read_text().splitlines()[-1]
