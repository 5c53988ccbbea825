"""What is refused before anything is made."""

from __future__ import annotations

import pytest

from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun, checks
from crosspatch.experiment.checks import check_finetuning
from crosspatch.settings_io import load_experiment


def training(*settings):
    check_finetuning(load_experiment("tiny", settings))


@pytest.mark.parametrize(
    ("setting", "package"),
    [("report_to=wandb", "wandb"), ("optimizer=adamw_8bit", "bitsandbytes")],
)
def test_a_package_that_a_training_needs_is_missed_before_it_begins(monkeypatch, setting, package):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"finetune\..* needs the package {package}.*pip install {package}"):
        training(f"finetune.{setting}")
    training()
    # Nothing is trained where the child is given.
    training(f"finetune.{setting}", "models.corrupted=random:qwen3")
    monkeypatch.setattr(checks, "find_spec", lambda name: object())
    training(f"finetune.{setting}")


def test_a_gpu_that_would_not_be_trained_on_is_refused():
    with pytest.raises(UsageError, match=r"got models\.device=cuda:1.*CUDA_VISIBLE_DEVICES=1"):
        training("models.device=cuda:1")
    for device in ("auto", "cpu", "cuda", "cuda:0"):
        training(f"models.device={device}")


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
    experiment = load_experiment("tiny", ["finetune.report_to=tensorboard", "data.train=4", "data.related=4"])
    run = ExperimentRun.start(experiment, tmp_path / "run")
    run.run("finetune")
    assert (tmp_path / "run" / "tensorboard" / "corrupted").is_dir()
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    ExperimentRun.start(experiment, tmp_path / "run", ("evaluate",))
    with pytest.raises(UsageError, match="needs the package tensorboard"):
        ExperimentRun.start(experiment, tmp_path / "other", ("evaluate",))
