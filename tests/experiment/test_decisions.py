"""What a run decides when it begins and holds to when it resumes: the day, the chat template, the precision."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest

from crosspatch.data.problem import Span
from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun
from crosspatch.experiment.forced_texts import kinds_of_tokens
from crosspatch.experiment.run_context import RunContext
from crosspatch.models import throughput
from crosspatch.models.saving import save_model
from crosspatch.models.tiny import tiny_model
from crosspatch.settings_io import load_experiment, make_experiment
from crosspatch.storage.record import SCHEMA_VERSION
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import MISTAKES, TRAINING
from tokenizers_for_tests import CHATML, DATED, PHI, tokenizer

QUESTION = "Solve for x: 2x = 18"


def saved(folder, template, seed=0):
    save_model(tiny_model("qwen3", seed), tokenizer(template), folder)
    return str(folder)


def record(out):
    return json.loads((out / "run.json").read_text())


def patched(cli, tmp_path, clean, corrupted, *more):
    out = tmp_path / "run"
    command = ("patch", "--clean", clean, "--corrupted", corrupted, "--prompt", QUESTION, "--layers", "1", "--out", out)
    return out, cli(*command, "--max-new-tokens", "3", "--set", "patch.controls=self", *more)


# The chat template


def test_a_pair_with_two_templates_is_refused_until_one_is_chosen(cli, tmp_path):
    pair = saved(tmp_path / "a", CHATML), saved(tmp_path / "b", PHI, seed=1)
    out, (code, _, err) = patched(cli, tmp_path, *pair)
    assert code == 2
    assert re.fullmatch(
        r"crosspatch: the two models' tokenizers give different .*chat_template.*", err.splitlines()[-1]
    )
    assert not out.exists()
    for choice in ("clean", "corrupted", "none"):
        out, (code, _, err) = patched(cli, tmp_path / choice, *pair, "--set", f"models.chat_template={choice}")
        assert code == 0, err
        assert record(out)["decisions"]["chat_template"] == choice
        assert record(out)["settings"]["models"]["chat_template"] == choice


def test_a_childs_template_is_used_and_said(cli, tmp_path):
    pair = saved(tmp_path / "a", None), saved(tmp_path / "b", PHI, seed=1)
    out, (code, said, err) = patched(cli, tmp_path, *pair)
    assert code == 0, err
    assert said.count("only the corrupted model has a chat template; it is used for both models") == 1
    assert record(out)["decisions"]["chat_template"] == "corrupted"
    # Another template in its place would be another experiment.
    tokenizer(CHATML).save_pretrained(tmp_path / "a")
    context = RunContext(make_experiment(record(out)["settings"]), RunDirectory.existing(out))
    with pytest.raises(UsageError, match="began with chat_template corrupted, and the models' tokenizers now lead to"):
        _ = context.prompts


# The day


def test_a_runs_prompts_are_those_of_the_day_on_which_it_began(tmp_path):
    clean = saved(tmp_path / "clean", DATED)
    experiment = load_experiment("tiny", [f"models.clean={clean}", "controls=[]"])
    run = ExperimentRun.start(experiment, tmp_path / "run")
    run.run("finetune")
    changed = {**record(tmp_path / "run"), "decisions": {**record(tmp_path / "run")["decisions"], "date": "2001-02-03"}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(changed))
    again = ExperimentRun.start(experiment, tmp_path / "run")
    assert "Today Date: 03 Feb 2001" in again.context.prompts.text(QUESTION)
    # In the pair too, which is what writes.
    assert again.context.pair.prompts == again.context.prompts


# The precision


def test_the_precision_is_measured_once_for_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "trains_faster_in_bf16", lambda device: True)
    experiment = load_experiment("tiny", ["finetune.precision=auto", "controls=[]"])
    ExperimentRun.start(experiment, tmp_path / "run").run("finetune")
    assert record(tmp_path / "run")["decisions"]["training_precision"] == "bf16"
    monkeypatch.setattr(throughput, "trains_faster_in_bf16", lambda device: pytest.fail("measured again"))
    again = ExperimentRun.start(experiment, tmp_path / "run").context
    assert again.precision(experiment.finetune).precision == "bf16"
    assert again.precision(experiment.teaching).precision == "bf16"
    # What was set needs no measuring.
    set_ = load_experiment("tiny", ["finetune.precision=float32"])
    assert RunContext(set_, RunDirectory.start(tmp_path / "other", set_)).precision(set_.finetune) == set_.finetune
    assert "training_precision" not in record(tmp_path / "other")["decisions"]


def test_a_worker_decides_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "trains_faster_in_bf16", lambda device: False)
    experiment = load_experiment("tiny")
    context = RunContext(experiment, RunDirectory.start(tmp_path, experiment), is_worker=True)
    assert context.precision(experiment.finetune).precision == "float32"
    assert set(record(tmp_path)["decisions"]) == {"date"}


# The record


@pytest.mark.parametrize("version", [None, 1, 3, SCHEMA_VERSION + 1, "4"])
def test_a_record_of_another_layout_is_refused(cli, tmp_path, version):
    experiment = load_experiment("tiny")
    out = RunDirectory.start(tmp_path / "run", experiment).root
    assert record(out)["schema_version"] == SCHEMA_VERSION
    changed = {**record(out), "schema_version": version}
    if version is None:
        del changed["schema_version"]
    (out / "run.json").write_text(json.dumps(changed))
    for command in (("run", "tiny", "--out", out), ("report", out), ("status", out), ("export", out)):
        code, _, err = cli(*command)
        assert (code, err.count("\n")) == (2, 1)
        assert f"expected {SCHEMA_VERSION}: it was written by crosspatch" in err


# Raw texts


def test_wrong_solutions_are_read_after_a_separator(tmp_path):
    experiment = load_experiment("tiny", ["models.chat_template=none"])
    run = ExperimentRun.start(experiment, tmp_path / "run")
    run.run("mistakes")
    mistakes, prompts = run.directory.read(MISTAKES), run.context.prompts
    assert not mistakes.is_empty()
    mistaken = {problem.id: problem for problem in run.directory.problems("mistaken")}
    for (prompt_id,), rows in mistakes.filter(layer=1).partition_by("prompt_id", as_dict=True).items():
        problem, tokens = mistaken[prompt_id], rows.sort("step")["read_token_id"].to_list()
        assert prompts.decode(tokens) == f"\n{problem.solution}"
        # A token is wrong where it overlaps what is wrong in the solution, whose first character comes second.
        told = rows.sort("step")["span"].to_list()
        moved = [Span(span.kind, span.start + 1, span.end + 1) for span in problem.spans]
        assert told == kinds_of_tokens([prompts.decode(tokens[: end + 1]) for end in range(len(tokens))], moved)
        assert any(told)


def test_raw_training_sets_the_solution_apart(tmp_path, log):
    run = ExperimentRun.start(load_experiment("tiny", ["models.chat_template=none", "controls=[]"]), tmp_path / "run")
    run.run("finetune")
    first = run.directory.problems("train")[0]
    assert any(line.endswith(f"\n\n{first.solution}<|im_end|>") for line in log.messages if "for example" in line)
    assert run.directory.read(TRAINING).filter(pl.col("train_loss").is_not_null()).height
