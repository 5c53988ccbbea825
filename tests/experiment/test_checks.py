"""What is refused before anything is made."""

from __future__ import annotations

import pytest

from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun, checks
from crosspatch.experiment.checks import check_finetuning, check_lenses
from crosspatch.settings_io import load_experiment
from crosspatch.storage.run import RunDirectory


def training(*settings):
    check_finetuning(load_experiment("tiny", settings))


def test_a_training_that_lacks_a_package_or_its_gpu_is_refused(monkeypatch):
    for setting, package in (("report_to=wandb", "wandb"), ("optimizer=adamw_8bit", "bitsandbytes")):
        monkeypatch.setattr(checks, "find_spec", lambda name: None)
        with pytest.raises(UsageError, match=rf"finetune\..* needs the package {package}.*pip install {package}"):
            training(f"finetune.{setting}")
        training()
        # Nothing is trained where the child is given.
        training(f"finetune.{setting}", "models.corrupted=random:qwen3")
        monkeypatch.setattr(checks, "find_spec", lambda name: object())
        training(f"finetune.{setting}")
    with pytest.raises(UsageError, match=r"got models\.device=cuda:1.*CUDA_VISIBLE_DEVICES=1"):
        training("models.device=cuda:1")
    for device in ("auto", "cpu", "cuda", "cuda:0"):
        training(f"models.device={device}")


def test_layers_to_steer_at_that_the_model_lacks_are_refused():
    check_lenses(load_experiment("tiny", ["lenses.layers=1,3"]))
    with pytest.raises(UsageError, match="layer 4 is out of range"):
        check_lenses(load_experiment("tiny", ["lenses.layers=4"]))


@pytest.mark.parametrize("command", ["run", "evaluate", "search", "teach"])
def test_a_run_is_checked_before_its_folder_is_made(tmp_path, cli, monkeypatch, command):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    arguments = [command, "tiny", "--set", "finetune.report_to=wandb", "--set", "data.held_out_from_teaching=true"]
    code, _, err = cli(*arguments, "--out", tmp_path / "run")
    assert code == 2
    assert "finetune.report_to=wandb needs the package wandb" in err
    assert not (tmp_path / "run").exists()
    # A dry run may be for another machine.
    if command != "evaluate":
        assert cli(*arguments, "--dry-run")[0] == 0


def test_what_only_a_training_needs_is_not_asked_for_when_it_is_done(tmp_path, monkeypatch):
    experiment = load_experiment("tiny", ["finetune.report_to=tensorboard"])
    run = RunDirectory.start(tmp_path / "run", experiment)
    for stage in ("data", "finetune"):
        with run.stage(stage):
            pass
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    ExperimentRun.start(experiment, tmp_path / "run", ("evaluate",))
    with pytest.raises(UsageError, match="needs the package tensorboard"):
        ExperimentRun.start(experiment, tmp_path / "other", ("evaluate",))
