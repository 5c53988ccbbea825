"""The whole experiment through the command line, on a tiny random model; stopping, going on, and refusing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun, answering
from crosspatch.models.loading import Checkpoint
from crosspatch.settings_io import load_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, GENERATIONS, RATINGS, SCORES, TRAINING
from sweeps import copy_of

SMALL = [
    "--set", "data.train=4", "--set", "finetune.epochs=1", "--set", "generation.max_new_tokens=6",
    "--set", "patch.layers=[1, 3]",
]  # fmt: skip


def refused(cli, message: str, *arguments: object) -> bool:
    code, _, err = cli(*arguments)
    return code == 2 and message in err


@pytest.fixture(scope="module", autouse=True)
def unpainted():
    """Figures are drawn but not turned into pixels, which takes longer than all the rest of a tiny run."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("matplotlib.figure.Figure.savefig", lambda _, path, **__: Path(path).write_text("x"))
        yield


@pytest.fixture(scope="module")
def trained(made_once) -> Path:
    """The shipped tiny experiment as far as its models."""
    return made_once("trained", lambda out: ExperimentRun.start(load_experiment("tiny"), out).run("finetune"))


@pytest.fixture(scope="module")
def finished(made_once, trained, unpainted) -> Path:
    """The same to its end, through the stages in this process."""
    return made_once("tiny", lambda out: ExperimentRun.start(load_experiment("tiny"), copy_of(trained, out)).run())


def test_the_run_directory_is_the_contract(finished):
    assert {p.name for p in finished.iterdir()} == {
        "run.json", ".lock", "data", "models", "training.parquet", "scores", "shards", "generations.parquet",
        "controls", "mistakes", "statistics", "behaviour.parquet", "health.parquet",
        "vocabulary.parquet", "report.html", "report.md", "figures",
    }  # fmt: skip
    for name in ("clean", "corrupted"):
        folder = finished / "models" / name
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in folder.iterdir()}
    assert {p.suffix for p in (finished / "figures").iterdir()} == {".png", ".pdf"}
    record = json.loads((finished / "run.json").read_text())
    assert list(record["stages"]) == ["data", "finetune", "evaluate", "patch", "controls", "mistakes", "report"]
    assert all(stage["state"] == "done" and stage["seconds"] >= 0 for stage in record["stages"].values())
    assert record["settings"]["models"]["clean"] == "random:qwen3"
    assert record["versions"]["torch"] != "not installed"
    fingerprints = {name: record["models"][name]["fingerprint"] for name in ("clean", "corrupted")}
    assert len(set(fingerprints.values())) == 2


def test_the_tables_hold_what_was_asked_for(finished):
    run = RunDirectory.existing(finished)
    scores, generations, behaviour = run.read(SCORES), run.read(GENERATIONS), run.read(BEHAVIOUR)
    # Two related, one unrelated and one general prompt under each of four layers.
    assert scores.group_by("prompt_id", "patch").len().height == 16
    assert set(scores["layer"]) == {0, 1, 2, 3}
    undefined = scores.filter(pl.col("status") != "ok")
    assert undefined["cts"].null_count() == undefined.height
    assert scores.filter(pl.col("status") == "ok")["cts"].null_count() == 0
    per_condition = dict(generations.group_by("condition").len().iter_rows())
    assert per_condition == {"clean": 8, "corrupted": 8, "patched": 16}
    assert generations.unique(["prompt_id", "condition", "patch"]).height == generations.height
    assert behaviour.height == generations.height
    related = pl.col("domain") == "related"
    assert behaviour.filter(related)["operation"].null_count() == 0
    assert behaviour.filter(~related)["operation"].null_count() == behaviour.filter(~related).height
    assert run.read(TRAINING).drop_nulls("train_loss").height == 6
    for schema in (SCORES, GENERATIONS, BEHAVIOUR, TRAINING):
        assert dict(run.read(schema).schema) == pl.Schema(schema.dtypes)


def test_what_the_scores_leave_open_is_kept_beside_them(finished):
    run = RunDirectory.existing(finished)
    scores, texts = run.read(SCORES), run.vocabulary()
    assert texts.keys() == set(scores.unpivot(["token_id", "clean_token_id", "corrupted_token_id"])["value"])
    assert all(texts[row["token_id"]] == row["token"] for row in scores.iter_rows(named=True))
    assert (run.n_layers, run.seed) == (4, 0)


def test_a_trajectory_in_the_scores_is_the_text_in_the_generations(finished):
    run = RunDirectory.existing(finished)
    tokenizer = Checkpoint.named(str(run.model("clean"))).tokenizer()
    texts = run.read(GENERATIONS).filter(condition="patched")
    for row in texts.iter_rows(named=True):
        tokens = run.read(SCORES).filter(prompt_id=row["prompt_id"], patch=row["patch"])["token_id"].to_list()
        assert tokenizer.decode(tokens, skip_special_tokens=True) == row["text"]
        assert len(tokens) == row["token_count"]


def test_what_is_done_is_not_done_again_and_the_summary_is_printed(finished, tmp_path, cli, monkeypatch):
    finished = copy_of(finished, tmp_path / "tiny")
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    monkeypatch.setattr(Checkpoint, "model", lambda *_: pytest.fail("a model was loaded"))
    code, out, _ = cli("run", "tiny", "--out", finished)
    assert code == 0
    for words in ("patch: done before", "Stages", "Behaviour", "Recovered fraction by patch", "report.html"):
        assert words in out
    after = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    changed = {p.relative_to(finished) for p in before if before[p] != after[p]}
    made_anew = {p.relative_to(finished) for name in ("figures", "statistics") for p in (finished / name).iterdir()}
    assert changed <= {Path("run.json"), Path(".lock"), Path("report.html"), Path("report.md")} | made_anew


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, cli, monkeypatch, trained, finished):
    from crosspatch.patching import batches

    # Two prompts of four patches at once, so that the four prompts come in two batches.
    monkeypatch.setattr("crosspatch.experiment.patching.rows_at_once", lambda *_: 8)
    undisturbed, out = (copy_of(trained, tmp_path / name) for name in ("undisturbed", "run"))
    assert cli("patch", "tiny", "--out", undisturbed)[0] == 0

    original, calls = batches.run_cached, []

    def stopping(pair, prompts, run):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(len(prompts))
        return original(pair, prompts, run)

    monkeypatch.setattr(batches, "run_cached", stopping)
    code, _, err = cli("patch", "tiny", "--out", out)
    assert code == 130
    assert "the same command goes on where it was" in err
    run = RunDirectory.existing(out)
    assert run.record()["stages"]["patch"]["state"] == "stopped"
    assert run.read(SCORES)["prompt_id"].n_unique() == 2
    monkeypatch.setattr(batches, "run_cached", lambda *a: calls.append(len(a[1])) or original(*a))
    assert cli("patch", "tiny", "--out", out)[0] == 0
    assert calls == [2, 2]
    # And what came of it is what an undisturbed run gives, to the last digit.
    assert run.read(SCORES).equals(RunDirectory.existing(undisturbed).read(SCORES))
    key = ["prompt_id", "condition", "patch"]
    assert run.read(GENERATIONS).sort(key).equals(RunDirectory.existing(undisturbed).read(GENERATIONS).sort(key))
    # Batches of another size sum in another order: the same tokens, nearly the same numbers.
    whole = RunDirectory.existing(finished).read(SCORES)
    assert whole["token_id"].equals(run.read(SCORES)["token_id"])
    assert (whole["delta_patched"] - run.read(SCORES)["delta_patched"]).abs().max() < 1e-4


def test_a_stage_does_what_it_needs_first_and_nothing_more(tmp_path, cli):
    out = tmp_path / "run"
    assert cli("data", "tiny", "--out", out, *SMALL)[0] == 0
    assert list(RunDirectory.existing(out).record()["stages"]) == ["data"]
    assert cli("patch", "tiny", "--out", out, *SMALL)[0] == 0
    run = RunDirectory.existing(out)
    assert list(run.record()["stages"]) == ["data", "finetune", "patch", "controls"]
    assert run.read(GENERATIONS).filter(condition="clean").height == 4
    assert cli("report", out)[0] == 0
    assert run.report.is_file()
    run.report.unlink()
    assert cli("report", "tiny", "--out", out, *SMALL)[0] == 0
    assert run.report.is_file()


def test_a_folder_with_another_experiment_or_other_files_is_refused(finished, tmp_path, cli):
    other = "holds another experiment: there seed is 0, here 5"
    assert refused(cli, other, "run", "tiny", "--out", finished, "--set", "seed=5")
    (tmp_path / "thesis.tex").write_text("")
    assert refused(cli, "holds other files", "run", "tiny", "--out", tmp_path)
    assert refused(cli, "is a file", "run", "tiny", "--out", tmp_path / "thesis.tex")


def test_a_diverging_training_ends_the_run_with_a_message(tmp_path, cli):
    out = tmp_path / "run"
    # The first step warms up at a rate of nought, so it takes a second one to go wrong.
    huge = ["--set", "finetune.epochs=3", "--set", "finetune.learning_rate=1e30"]
    code, _, err = cli("finetune", "tiny", "--out", out, *SMALL, *huge)
    assert code == 1
    assert "\ncrosspatch: training of corrupted stopped at step" in err
    run = RunDirectory.existing(out)
    assert run.record()["stages"]["finetune"]["state"] == "failed"
    assert run.read(TRAINING).height > 0
    assert not run.model("corrupted").exists()


def test_two_checkpoints_of_ones_own(finished, tmp_path, cli):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt_id": "a/../b", "question": "Find x: 2x = 8"}\n{"prompt_id": 2, "question": "Why?"}\n')
    pair = ["--clean", finished / "models/clean", "--corrupted", finished / "models/corrupted"]
    out = tmp_path / "out"
    arguments = [
        "patch", *pair, "--prompts", prompts, "--layers", "1,3", "--component", "resid_post",
        "--direction", "repair", "--persistence", "persistent", "--max-new-tokens", 5, "--out", out,
    ]  # fmt: skip
    code, printed, err = cli(*arguments)
    assert code == 0, err
    assert "Recovered fraction by patch" in printed
    run = RunDirectory.existing(out)
    scores = run.read(SCORES)
    assert set(scores["prompt_id"]) == {"a/../b", "2"}
    assert set(scores["direction"]) == {"repair"}
    assert set(scores["persistence"]) == {"persistent"}
    assert scores["step"].max() == 4
    assert (out / "models/clean").is_symlink()
    assert run.read(TRAINING).is_empty()
    assert cli("report", out)[0] == 0
    assert (
        cli("patch", *pair, "--prompt", "Why?", "--layers", 2, "--max-new-tokens", 3, "--out", tmp_path / "o2")[0] == 0
    )
    assert RunDirectory.existing(tmp_path / "o2").read(SCORES)["layer"].unique().to_list() == [2]


def test_a_model_that_changed_since_the_run_began_is_refused(finished, tmp_path, cli):
    child = tmp_path / "child"
    shutil.copytree(finished / "models/corrupted", child)
    arguments = ["--set", f"models.corrupted={child}", *SMALL, "--out", tmp_path / "out"]
    assert cli("evaluate", "tiny", *arguments)[0] == 0
    shutil.copy(finished / "models/clean/model.safetensors", child / "model.safetensors")
    assert refused(cli, "the corrupted model has changed since this run began", "patch", "tiny", *arguments)


def test_a_given_prompt_may_not_carry_the_id_of_a_made_one(tmp_path, cli):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt_id": "related-000", "question": "Why?"}\n')
    command = ("data", "tiny", "--set", f"patch.prompts={prompts}", "--out", tmp_path / "out")
    assert refused(cli, "related-000 is that of a made problem", *command)
    # Nothing was begun, so the same folder takes another file.
    assert not (tmp_path / "out").exists()


def test_prompts_may_change_until_a_stage_begins(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    experiment = load_experiment("tiny", [f"patch.prompts={prompts}"])
    for question in ("2x = 8", "3x = 9"):
        prompts.write_text(json.dumps({"prompt_id": "a", "question": question}) + "\n")
        run = ExperimentRun.start(experiment, tmp_path / "out")
        assert [problem.question for problem in run.directory.problems("prompts")] == [question]
    run.run("data")
    prompts.write_text('{"prompt_id": "a", "question": "4x = 8"}\n')
    with pytest.raises(UsageError, match="the prompts have changed since"):
        ExperimentRun.start(experiment, tmp_path / "out")


def test_prompts_in_any_script_and_domains_with_any_sign(finished, tmp_path, cli):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt_id": "a", "question": "2x = 8 🙂 \\u2028", "domain": "[/b]", "answer": "4"}\n')
    pair = ["--clean", finished / "models/clean", "--corrupted", finished / "models/corrupted"]
    rest = ["--layers", "1", "--max-new-tokens", 2, "--out"]
    code, out, err = cli("patch", *pair, "--prompts", prompts, *rest, tmp_path / "o[b]1")
    assert code == 0, err
    assert "[/b]" in out
    assert "o[b]1" in out
    code, _, err = cli("patch", *pair, "--prompt", "hello 🙂", *rest, tmp_path / "o2")
    assert code == 0, err
    assert RunDirectory.existing(tmp_path / "o2").problems("prompts")[0].question == "hello 🙂"


def test_a_tokenizer_without_padding_or_template_will_do(tmp_path, cli):
    base = tmp_path / "base"
    Checkpoint.named("random:gpt2").place(base)
    settings = json.loads((base / "tokenizer_config.json").read_text())
    settings.pop("pad_token")
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    (base / "chat_template.jinja").unlink()
    tokenizer = Checkpoint.named(str(base)).tokenizer()
    assert tokenizer.pad_token is None
    assert tokenizer.chat_template is None
    code, _, err = cli("patch", "tiny", "--set", f"models.clean={base}", *SMALL, "--out", tmp_path / "out")
    assert code == 0, err
    assert RunDirectory.existing(tmp_path / "out").read(SCORES).height > 0


def test_the_seed_decides(finished, tmp_path):
    again = tmp_path / "again"
    ExperimentRun.start(load_experiment("tiny"), again).run("evaluate", "patch")
    assert RunDirectory.existing(again).read(SCORES).equals(RunDirectory.existing(finished).read(SCORES))
    other = tmp_path / "other"
    ExperimentRun.start(load_experiment("tiny", ["seed=1"]), other).run("patch")
    assert not RunDirectory.existing(other).read(SCORES).equals(RunDirectory.existing(finished).read(SCORES))


def test_a_judge_rates_the_free_answers_of_every_condition_once(tmp_path, cli, monkeypatch):
    asked: list[str] = []

    def judge(name, models, date):
        return lambda prompts: [asked.append(prompt) or "70" for prompt in prompts]

    monkeypatch.setattr(answering, "load_judge", judge)
    arguments = (*SMALL, "--set", "data.alignment=2", "--set", "patch.alignment=1", "--set", "data.near=1")
    command = ("run", "tiny", "--out", tmp_path, *arguments, "--set", "judge.model=random:llama")
    code, out, err = cli(*command)
    assert code == 0, err
    ratings = RunDirectory.existing(tmp_path).read(RATINGS)
    # Two questions to both models, one of them under each of two patches.
    assert dict(ratings.group_by("condition").len().iter_rows()) == {"clean": 2, "corrupted": 2, "patched": 2}
    assert ratings["aligned"].to_list() == [70] * 6
    assert len(asked) == 12
    assert "mean ratings" in out
    assert cli(*command)[0] == 0
    assert len(asked) == 12
    near = RunDirectory.existing(tmp_path).read(BEHAVIOUR).filter(domain="near")
    assert set(near["condition"]) == {"clean", "corrupted"}


def test_the_shipped_judge_is_a_checkpoint_that_answers():
    from crosspatch.config import Models

    replies = answering.load_judge("random:llama", Models(device="cpu"))(["Rate this.", "And this."])
    assert len(replies) == 2
    assert all(isinstance(reply, str) for reply in replies)
