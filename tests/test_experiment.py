"""The whole experiment through the command line, on a tiny random model; stopping, resuming, and refusing."""

import json
import shutil
from itertools import product
from pathlib import Path

import polars as pl
import pytest

from adapters import changed_settings
from crosspatch import UsageError, load_experiment, run_experiment
from crosspatch.config import Models
from crosspatch.experiment import ExperimentRun, page
from crosspatch.experiment.answering import load_judge
from crosspatch.models.loading import Checkpoint
from crosspatch.statistics.claim import counted
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, CLAIMS, GENERATIONS, SCORES, TRAINING
from sweeps import copy_of

SMALL = [f"--set={s}" for s in ("data.train=4", "finetune.epochs=1", "generation.max_new_tokens=6", "patch.layers=1,3")]
pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture(scope="module")
def finished(made_once) -> Path:
    """The shipped tiny experiment, through the stages in this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("matplotlib.figure.Figure.savefig", lambda _, path, **__: Path(path).write_text("x"))
        return made_once("tiny", lambda out: run_experiment(load_experiment("tiny"), out))


def test_the_run_directory_is_the_contract(finished):
    assert {p.name for p in finished.iterdir()} == {
        "run.json", ".lock", "data", "models", "training.parquet", "scores", "shards", "generations.parquet",
        "controls", "mistakes", "statistics", "behaviour.parquet", "health.parquet",
        "vocabulary.parquet", "report.html", "report.md", "figures",
    }  # fmt: skip
    for path in product(("clean", "corrupted"), ("config.json", "model.safetensors", "tokenizer.json")):
        assert finished.joinpath("models", *path).is_file()
    assert {p.suffix for p in (finished / "figures").iterdir()} == {".png", ".pdf"}
    record = json.loads((finished / "run.json").read_text())
    assert list(record["stages"]) == ["data", "finetune", "patch", "evaluate", "controls", "mistakes", "report"]
    assert all(stage["state"] == "done" and stage["seconds"] >= 0 for stage in record["stages"].values())
    assert record["settings"]["models"]["clean"] == "random:qwen3"
    assert record["versions"]["torch"] != "not installed"
    assert record["models"]["clean"]["fingerprint"] != record["models"]["corrupted"]["fingerprint"]


def test_the_tables_hold_what_was_asked_for(finished):
    run = RunDirectory.existing(finished)
    scores, generations, behaviour = run.read(SCORES), run.read(GENERATIONS), run.read(BEHAVIOUR)
    # Two related, one unrelated and one general prompt under each of four layers.
    assert scores.group_by("prompt_id", "patch").len().height == 16
    assert set(scores["layer"]) == {0, 1, 2, 3}
    assert (scores["cts"].is_null() == (scores["status"] != "ok")).all()
    counts = generations.group_by("condition").len().iter_rows()
    assert dict(counts) == {"clean": 8, "corrupted": 8, "patched": 16}
    assert generations.unique(["prompt_id", "condition", "patch"]).height == generations.height
    assert behaviour.height == generations.height
    # Operations are graded in related answers and in no others.
    assert set(behaviour.filter(pl.col("operation").is_not_null())["domain"]) == {"related"}
    assert behaviour.filter(domain="related")["operation"].null_count() == 0
    assert run.read(TRAINING).drop_nulls("train_loss").height == 6
    for schema in (SCORES, GENERATIONS, BEHAVIOUR, TRAINING):
        assert dict(run.read(schema).schema) == pl.Schema(schema.dtypes)
    texts = run.vocabulary()
    assert texts.keys() == set(scores.unpivot(["token_id", "clean_token_id", "corrupted_token_id"])["value"])
    assert all(texts[row["token_id"]] == row["token"] for row in scores.iter_rows(named=True))
    assert (run.n_layers, run.seed) == (4, 0)
    # The tokens of the scores are the texts of the generations.
    tokenizer = Checkpoint.named(str(run.model("clean"))).tokenizer()
    for row in generations.filter(condition="patched").iter_rows(named=True):
        tokens = scores.filter(prompt_id=row["prompt_id"], patch=row["patch"])["token_id"].to_list()
        assert tokenizer.decode(tokens, skip_special_tokens=True) == row["text"]
        assert len(tokens) == row["token_count"]


def test_what_is_done_is_not_done_again_and_the_summary_is_printed(finished, tmp_path, cli, monkeypatch):
    finished = copy_of(finished, tmp_path / "tiny")
    before = {p.relative_to(finished): p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    monkeypatch.setattr(Checkpoint, "model", lambda *_: pytest.fail("a model was loaded"))
    out = cli("run", "tiny", "--out", finished, code=0).out
    for words in ("patch: done before", "Behaviour", "Recovered fraction where", "layer 0 to 3", "report.html"):
        assert words in out
    # Undecided claims are counted.
    verdicts = RunDirectory.existing(finished).read(CLAIMS)["verdict"]
    assert f"claims: {counted(verdicts)}" in out
    assert " undecided " not in out.partition("claims:")[0]
    changed = {str(p) for p, time in before.items() if (finished / p).stat().st_mtime_ns != time}
    made_anew = {name for name in changed if name.startswith(("figures/", "statistics/"))}
    assert changed - made_anew <= {"run.json", ".lock", "report.html", "report.md"}


def test_a_stage_does_what_it_needs_first_and_nothing_more(tmp_path, cli):
    out = tmp_path / "run"
    assert cli("data", "tiny", "--out", out, *SMALL)[0] == 0
    assert list(RunDirectory.existing(out).record()["stages"]) == ["data"]
    assert cli("patch", "tiny", "--out", out, *SMALL)[0] == 0
    run = RunDirectory.existing(out)
    assert list(run.record()["stages"]) == ["data", "finetune", "patch", "controls"]
    assert run.read(GENERATIONS).filter(condition="clean").height == 4
    for arguments in ((out,), ("tiny", "--out", out, *SMALL)):
        assert cli("report", *arguments)[0] == 0
        run.report.unlink()


@pytest.mark.parametrize(("rows", "prompts"), [(4, [1, 4, 4, 4, 4]), (64, [4, 4, 4, 4])])
def test_the_report_is_made_when_one_prompt_is_patched_and_grows(tmp_path, monkeypatch, rows, prompts):
    """If there is a single shard, the first report has all prompts."""
    seen = []
    monkeypatch.setattr(
        page, "write_run_report", lambda run, **_: seen.append(run.read(SCORES)["prompt_id"].n_unique())
    )
    settings = [one.removeprefix("--set=") for one in SMALL]
    run_experiment(load_experiment("tiny", [*settings, f"patch.shard_rows={rows}"]), tmp_path / "run")
    assert seen == prompts


def test_a_folder_with_another_experiment_or_other_files_is_refused(finished, tmp_path, cli):
    (tmp_path / "thesis.tex").write_text("")
    for message, *arguments in (
        ("has another experiment: its seed is 0, not 5", finished, "--set", "seed=5"),
        ("has other files", tmp_path),
        ("is a file", tmp_path / "thesis.tex"),
    ):
        assert message in cli("run", "tiny", "--out", *arguments, code=2).err
    with pytest.raises(UsageError, match="got the stage evalute, expected one of data, teach"):
        run_experiment(load_experiment("tiny"), tmp_path / "run", "evalute")
    assert not (tmp_path / "run").exists()


def test_two_checkpoints_of_ones_own_and_texts_with_any_sign(finished, tmp_path, cli):
    pair = ["--clean", finished / "models/clean", "--corrupted", finished / "models/corrupted"]
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "o[b]ut"
    prompts.write_text(
        '{"prompt_id": "a/../b", "question": "2x = 8 🙂 \\u2028", "domain": "[/b]", "answer": "4"}\n'
        '{"prompt_id": 2, "question": "Why?"}\n'
    )
    arguments = [
        "patch", *pair, "--prompts", prompts, "--layers", "1,3", "--component", "resid_post",
        "--direction", "repair", "--persistence", "persistent", "--max-new-tokens", 5, "--out", out,
    ]  # fmt: skip
    printed = cli(*arguments, code=0).out
    assert all(words in printed for words in ("Recovered fraction by patch", "[/b]", "o[b]ut"))
    run = RunDirectory.existing(out)
    asked = run.read(SCORES).select("prompt_id", "direction", "persistence").unique().rows()
    assert set(asked) == {(prompt, "repair", "persistent") for prompt in ("a/../b", "2")}
    assert run.read(SCORES)["step"].max() == 4
    assert (out / "models/clean").is_symlink()
    assert run.read(TRAINING).is_empty()
    assert cli("report", out)[0] == 0
    one = ("--prompt", "hello 🙂", "--layers", 2, "--max-new-tokens", 3, "--out", tmp_path / "one")
    assert cli("patch", *pair, *one)[0] == 0
    run = RunDirectory.existing(tmp_path / "one")
    assert run.read(SCORES)["layer"].unique().to_list() == [2]
    assert run.problems("prompts")[0].question == "hello 🙂"


def test_a_model_that_changed_since_the_run_began_is_refused(finished, tmp_path, cli):
    child = shutil.copytree(finished / "models/corrupted", tmp_path / "child")
    arguments = ["--set", f"models.corrupted={child}", *SMALL, "--out", tmp_path / "out"]
    cli("evaluate", "tiny", *arguments, code=0)
    shutil.copy(finished / "models/clean/model.safetensors", child / "model.safetensors")
    assert "the corrupted model has changed since this run began" in cli("patch", "tiny", *arguments, code=2).err


def test_prompts_may_change_until_a_stage_begins_but_not_take_ids_of_made_problems(tmp_path):
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    experiment = load_experiment("tiny", [f"patch.prompts={prompts}"])
    prompts.write_text('{"prompt_id": "related-000", "question": "Why?"}\n')
    with pytest.raises(UsageError, match="related-000 is also the id of a generated problem"):
        run_experiment(experiment, out, "data")
    assert not out.exists()
    for question in ("2x = 8", "3x = 9"):
        prompts.write_text(json.dumps({"prompt_id": "a", "question": question}) + "\n")
        run = ExperimentRun.start(experiment, out)
        assert [problem.question for problem in run.directory.problems("prompts")] == [question]
    run.run("data")
    prompts.write_text('{"prompt_id": "a", "question": "4x = 8"}\n')
    with pytest.raises(UsageError, match="the prompts have changed since"):
        ExperimentRun.start(experiment, out)


def test_a_tokenizer_without_padding_or_template_will_do(tmp_path, cli):
    base = tmp_path / "base"
    Checkpoint.named("random:gpt2").place(base)
    changed_settings(base, "tokenizer_config.json", pad_token=None)
    (base / "chat_template.jinja").unlink()
    tokenizer = Checkpoint.named(str(base)).tokenizer()
    assert tokenizer.pad_token is tokenizer.chat_template is None
    cli("patch", "tiny", "--set", f"models.clean={base}", *SMALL, "--out", tmp_path / "out", code=0)
    assert RunDirectory.existing(tmp_path / "out").read(SCORES).height > 0


def test_the_seed_decides(finished, tmp_path):
    scores = RunDirectory.existing(finished).read(SCORES)
    again = run_experiment(load_experiment("tiny"), tmp_path / "again", "evaluate", "patch")
    assert again.read(SCORES).equals(scores)
    seeded = load_experiment("tiny", ["seed=1", "generation.max_new_tokens=6"])
    other = run_experiment(seeded, tmp_path / "other", "patch")
    assert not other.read(SCORES).filter(step=0).equals(scores.filter(step=0))


def test_the_shipped_judge_is_a_checkpoint_that_answers():
    replies = load_judge("random:llama", Models(device="cpu"))(["Rate this.", "And this."])
    assert [type(reply) for reply in replies] == [str, str]
