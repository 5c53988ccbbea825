"""Whoever does the shards, the same comes of them: byte for byte, where each has as many threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec

import psutil
import pytest

from commands import ended, finished, started, until
from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun
from crosspatch.experiment.executors import by_slurm as by_slurm_module
from crosspatch.experiment.executors import by_this_process, executor
from crosspatch.experiment.executors.by_processes import PRELOADED
from crosspatch.experiment.executors.by_slurm import by_slurm
from crosspatch.experiment.patching import PatchStage
from crosspatch.experiment.run_context import RunContext
from crosspatch.settings_io import load_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import SCORES
from sweeps import OPTIONS, SETTINGS, contents, copy_of, left_behind, rows_in_order


@pytest.fixture(scope="module")
def alone(swept, tmp_path_factory):
    """What one process makes of it."""
    root = tmp_path_factory.mktemp("alone")
    run, log = copy_of(swept, root / "run"), root / "log"
    assert finished(log, "score-mistakes", "tiny", "--out", run, *OPTIONS) == 0, log.read_text()
    return run


def test_one_process_leaves_a_part_for_each_shard_and_rows_in_the_stated_order(alone):
    run = RunDirectory.existing(alone)
    assert len(list((alone / "scores").iterdir())) == 18
    assert run.read(SCORES)["prompt_id"].n_unique() == 9
    assert rows_in_order(run)
    assert not left_behind(alone)
    facts = run.record()["models"]
    assert facts["clean"]["fingerprint"] != facts["corrupted"]["fingerprint"]


def test_two_processes_give_the_same(ready, alone, tmp_path):
    run, log = copy_of(ready, tmp_path / "run"), tmp_path / "log"
    options = ("--set", "execution.workers=2", "--set", "execution.threads=1")
    for stage in ("patch", "score-mistakes"):
        assert finished(log, stage, "tiny", "--out", run, *OPTIONS, *options) == 0, log.read_text()
    assert contents(run) == contents(alone)
    assert not left_behind(run)
    # What the workers loaded is in the record, though they do not write it.
    of_models = [RunDirectory.existing(root).record()["models"] for root in (run, alone)]
    assert of_models[0] == of_models[1]


@pytest.mark.slow
def test_two_actors_of_ray_give_the_same_and_one_that_is_killed_is_replaced(ready, alone, tmp_path):
    """Patching alone: shards are shards, and Ray's start takes longest."""
    pytest.importorskip("ray")
    run, log = copy_of(ready, tmp_path / "run"), tmp_path / "log"
    options = ("--set", "execution.executor=ray", "--set", "execution.workers=2")
    command = started(log, "patch", "tiny", "--out", run, *OPTIONS, *options)

    def kills_an_actor_at_work() -> bool:
        # Ray's processes come and go meanwhile.
        with suppress(psutil.Error):
            for process in psutil.Process(command.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if process.name().startswith("ray::Worker.do"):
                        process.kill()
                        return True
        return False

    until(kills_an_actor_at_work)
    assert ended(command) == 0, log.read_text()
    assert " ".join(log.read_text().split()).count("failed, try 1: the process that computed it was killed") == 1
    assert finished(log, "score-mistakes", "tiny", "--out", run, *OPTIONS) == 0, log.read_text()
    assert contents(run) == contents(alone)
    assert not left_behind(run)


def test_what_workers_need_is_there_to_be_preloaded():
    assert all(find_spec(name) is not None for name in PRELOADED)


def test_jobs_give_the_same(ready, alone, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    from crosspatch.experiment import executors

    # No SLURM here: submitit runs the jobs as processes, from the same submission. Each starts anew, which takes
    # seconds; shards are shards, so those of one stage are enough.
    def by_jobs(stage):
        return by_slurm(stage, cluster="local") if stage.name == "patch" else by_this_process(stage)

    monkeypatch.setattr(executors, "executor", lambda settings: by_jobs)
    run, experiment = copy_of(ready, tmp_path / "run"), load_experiment("tiny", [*SETTINGS, "execution.workers=2"])
    ExperimentRun.start(experiment, run, ("patch", "controls", "mistakes")).run("patch", "controls", "mistakes")
    assert contents(run) == contents(alone)


def test_slices_by_commands_at_the_same_time_and_the_rest_by_workers_give_the_same(ready, alone, tmp_path):
    run = copy_of(ready, tmp_path / "run")

    def command(log: str, stage: str, *options: object) -> int:
        return finished(tmp_path / log, stage, "tiny", "--out", run, *OPTIONS, *options)

    with ThreadPoolExecutor() as threads:
        slices = [threads.submit(command, f"log{number}", "patch", "--shard", f"{number}/3") for number in (1, 3)]
    assert [slice_.result() for slice_ in slices] == [0, 0], (tmp_path / "log1").read_text()
    assert not (run / "vocabulary.parquet").exists()
    assert command("log", "patch", "--workers", 2, "--set", "execution.threads=1") == 0
    assert command("log", "score-mistakes") == 0
    assert contents(run) == contents(alone)


def test_another_cut_gives_the_same_tokens_and_nearly_the_same_numbers(alone, ready, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    whole = ("--set", "patch.shard_rows=36")
    assert finished(log, "patch", "tiny", "--out", run, *OPTIONS, *whole) == 0, log.read_text()
    assert len(list((run / "scores").iterdir())) == 1
    one, other = (RunDirectory.existing(root).read(SCORES) for root in (run, alone))
    assert one["token_id"].equals(other["token_id"])
    assert (one["delta_patched"] - other["delta_patched"]).abs().max() < 1e-4


@pytest.mark.parametrize("wrong", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "²/3"])
def test_a_slice_that_is_none_is_refused(cli, tmp_path, wrong):
    code, _, err = cli("patch", "tiny", "--out", tmp_path / "run", "--shard", wrong)
    assert code == 2
    assert "expected i/n" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("executor", "missing", "message"),
    [("ray", "ray", "needs Ray.*pip install"), ("slurm", "submitit", "needs submitit.*pip install")],
)
def test_a_missing_package_or_cluster_is_one_line(monkeypatch, ready, tmp_path, executor, missing, message):
    monkeypatch.setitem(sys.modules, missing, None)
    experiment = load_experiment("tiny", [*SETTINGS, f"execution.executor={executor}"])
    run = ExperimentRun.start(experiment, copy_of(ready, tmp_path / "run"), ("patch",))
    with pytest.raises(UsageError, match=message):
        run.run("patch")
    monkeypatch.undo()
    if executor == "slurm":
        pytest.importorskip("submitit")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(UsageError, match="SLURM is not reached from here"):
            run.run("patch")


def test_parameters_of_jobs_are_submitits(tmp_path):
    submitit = pytest.importorskip("submitit")

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


def test_the_settings_name_the_executor():
    def named(*settings: str):
        return executor(load_experiment("tiny", [f"execution.{setting}" for setting in settings]).execution)

    assert named() is by_this_process
    assert named("workers=2").__name__ == "by_processes"
    assert named("executor=ray").__name__ == "by_ray"
    assert named("executor=slurm").__name__ == "by_slurm"
