"""What is refused before anything is made."""

from __future__ import annotations

import pytest

from crosspatch.config import Finetune
from crosspatch.errors import UsageError
from crosspatch.experiment import checks
from crosspatch.experiment.checks import check_training


@pytest.mark.parametrize(
    ("settings", "package"),
    [({"report_to": ("wandb",)}, "wandb"), ({"optimizer": "adamw_8bit"}, "bitsandbytes")],
)
def test_a_package_that_a_training_needs_is_missed_before_it_begins(monkeypatch, settings, package):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"finetune\..* needs the package {package}.*pip install {package}"):
        check_training(Finetune(**settings), "finetune", None)
    check_training(Finetune(), "finetune", None)
    monkeypatch.setattr(checks, "find_spec", lambda name: object())
    check_training(Finetune(**settings), "finetune", None)


def test_a_gpu_that_would_not_be_trained_on_is_refused():
    with pytest.raises(UsageError, match=r"got models\.device=cuda:1.*CUDA_VISIBLE_DEVICES=1"):
        check_training(Finetune(), "finetune", "cuda:1")
    for device in (None, "cpu", "cuda", "cuda:0"):
        check_training(Finetune(), "finetune", device)


def test_a_run_is_checked_before_its_folder_is_made(tmp_path, cli, monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    for command, key in (("run", "finetune"), ("search", "finetune")):
        code, _, err = cli(command, "tiny", "--out", tmp_path / "run", "--set", f"{key}.report_to=wandb")
        assert code == 2
        assert f"{key}.report_to=wandb needs the package wandb" in err
        assert not (tmp_path / "run").exists()
