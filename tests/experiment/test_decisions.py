"""What a run refuses or decides when it begins, and keeps when it resumes: day, chat template and precision."""

import json
import re

import pytest

from adapters import saved_base
from crosspatch import load_experiment, run_experiment
from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun, checks
from crosspatch.experiment.run_context import RunContext
from crosspatch.models import throughput
from crosspatch.settings_io import make_experiment
from crosspatch.storage.record import SCHEMA_VERSION
from crosspatch.storage.run import RunDirectory
from tokenizers_for_tests import CHATML, DATED, PHI, tokenizer

QUESTION = "Solve for x: 2x = 18"


def record(out):
    return json.loads((out / "run.json").read_text())


def test_the_chat_template_of_a_run_is_chosen_before_it_begins_and_kept(cli, tmp_path):
    out, clean = tmp_path / "run", saved_base(tmp_path / "a", tokenizer=tokenizer(CHATML))
    corrupted = saved_base(tmp_path / "b", seed=1, tokenizer=tokenizer(PHI))
    command = ["patch", "--clean", clean, "--corrupted", corrupted, "--prompt", QUESTION, "--layers", "1", "--out", out]
    command += ["--max-new-tokens", "1", "--set", "patch.controls=self"]
    refused = cli(*command, code=2).err
    assert re.search(r"(?m)^crosspatch: the two models' tokenizers give different .*chat_template", refused)
    assert not out.exists()
    cli(*command, "--set", "models.chat_template=corrupted", code=0)
    settings = record(out)["settings"]
    assert record(out)["decisions"]["chat_template"] == settings["models"]["chat_template"] == "corrupted"
    # Another template in its place would be another experiment.
    experiment = make_experiment(settings, ["models.chat_template=clean"])
    with pytest.raises(UsageError, match="began with chat_template corrupted, but the models' tokenizers now give"):
        _ = RunContext(experiment, RunDirectory.existing(out)).prompts


def test_a_run_keeps_the_day_on_which_it_began_and_the_precision_that_it_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "trains_faster_in_bf16", lambda device: True)
    clean = saved_base(tmp_path / "clean", tokenizer=tokenizer(DATED))
    settings, out = [f"models.clean={clean}", "data.train=4"], tmp_path / "run"
    experiment = load_experiment("tiny", settings)
    run_experiment(experiment, out, "finetune")
    decisions = record(out)["decisions"]
    assert decisions["training_precision"] == "bf16"
    (out / "run.json").write_text(json.dumps(record(out) | {"decisions": {**decisions, "date": "2001-02-03"}}))
    monkeypatch.setattr(throughput, "trains_faster_in_bf16", lambda device: pytest.fail("measured again"))
    again = ExperimentRun.start(experiment, out).context
    assert again.precision(experiment.finetune).precision == again.precision(experiment.teaching).precision == "bf16"
    assert "Today Date: 03 Feb 2001" in again.prompts.text(QUESTION)
    # In the pair too, which is what writes.
    assert again.pair.prompts == again.prompts
    # A precision that is set is not measured, and a worker decides nothing.
    set_ = load_experiment("tiny", ["finetune.precision=float32"])
    assert RunContext(set_, RunDirectory.start(tmp_path / "other", set_)).precision(set_.finetune) == set_.finetune
    monkeypatch.setattr(throughput, "trains_faster_in_bf16", lambda device: False)
    worker = RunContext(experiment, RunDirectory.start(tmp_path / "worker", experiment), is_worker=True)
    assert worker.precision(experiment.finetune).precision == "float32"
    for other in ("other", "worker"):
        assert set(record(tmp_path / other)["decisions"]) == {"date"}


@pytest.mark.parametrize("changed", [{}, *({"schema_version": of} for of in (1, 3, SCHEMA_VERSION + 1, "4"))])
def test_a_record_of_another_layout_is_refused(cli, tmp_path, changed):
    out = RunDirectory.start(tmp_path / "run", load_experiment("tiny")).root
    written = record(out)
    assert written.pop("schema_version") == SCHEMA_VERSION
    (out / "run.json").write_text(json.dumps(written | changed))
    for command in (("run", "tiny", "--out", out), ("report", out), ("status", out), ("export", out)):
        err = cli(*command, code=2).err
        assert err.count("\n") == 1
        assert f"expected {SCHEMA_VERSION}: it was written by crosspatch" in err


def test_a_training_that_lacks_a_package_or_its_gpu_is_refused_unless_it_is_done(tmp_path, monkeypatch):
    def training(*settings: str, packages: object = None) -> None:
        monkeypatch.setattr(checks, "find_spec", lambda name: packages)
        checks.check_finetuning(load_experiment("tiny", settings))

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
    experiment = load_experiment("tiny", ["finetune.report_to=tensorboard"])
    run = RunDirectory.start(tmp_path / "run", experiment)
    for stage in ("data", "finetune"):
        with run.stage(stage):
            pass
    ExperimentRun.start(experiment, tmp_path / "run", ("evaluate",))
    with pytest.raises(UsageError, match="needs the package tensorboard"):
        ExperimentRun.start(experiment, tmp_path / "other", ("evaluate",))
