"""What is refused before anything is made."""

from __future__ import annotations

import pytest

from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun, checks
from crosspatch.experiment.checks import check_finetuning
from crosspatch.settings_io import load_experiment
from crosspatch.storage.run import RunDirectory


def test_a_training_that_lacks_a_package_or_its_gpu_is_refused(monkeypatch):
    def training(*settings: str, packages: object = None) -> None:
        monkeypatch.setattr(checks, "find_spec", lambda name: packages)
        check_finetuning(load_experiment("tiny", settings))

    for setting, package in (("report_to=wandb", "wandb"), ("optimizer=adamw_8bit", "bitsandbytes")):
        with pytest.raises(UsageError, match=rf"finetune\..* needs the package {package}.*pip install {package}"):
            training(f"finetune.{setting}")
        # Nothing is trained where the child is given.
        training(f"finetune.{setting}", "models.corrupted=random:qwen3")
        training(f"finetune.{setting}", packages=object())
    with pytest.raises(UsageError, match=r"got models\.device=cuda:1.*CUDA_VISIBLE_DEVICES=1"):
        training("models.device=cuda:1")
    for device in ("auto", "cpu", "cuda", "cuda:0"):
        training(f"models.device={device}")


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
