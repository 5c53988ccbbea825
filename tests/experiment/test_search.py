"""A search: which variants there are, and that all of them are trained, asked and compared."""

import json

import pytest

from crosspatch import load_experiment
from crosspatch.errors import UsageError
from crosspatch.experiment.problems import all_problems
from crosspatch.experiment.search import variants
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import TRAINING, VARIANTS


def test_a_grid_has_every_combination_and_its_names_tell_them_apart():
    varied = ["search.epochs=[1, 2, 1]", "search.learning_rate=[1e-4, 1e-3]", "search.seeds=[0, 1]"]
    varied += ["search.examples=[4, 8]", "search.method=[full, lora]"]
    names = [variant.name for variant in variants(load_experiment("tiny", varied))]
    assert len(set(names)) == len(names) == 32
    assert "variant-method-lora-examples-4-learning-rate-0.001-seed-1-epochs-2" in names
    # The paper's vary the epochs alone.
    papers = variants(load_experiment("paper"))
    assert [v.name for v in papers] == [f"variant-epochs-{n}" for n in (3, 12, 20)]
    assert [v.settings.epochs for v in papers] == [3, 12, 20]
    assert {(v.settings.learning_rate, v.settings.examples, v.seed) for v in papers} == {(3e-5, None, 0)}


def test_a_search_from_the_command_line(tmp_path, cli):
    out = tmp_path / "run"
    settings = ("search.epochs=[1, 4]", "search.examples=[4]", "generation.max_new_tokens=8")
    arguments = ("search", "tiny", "--out", out, *(f"--set={setting}" for setting in settings))
    said = cli(*arguments, code=0).out
    for words in ("epochs-1", "epochs-4", "(chosen)", "--set finetune.epochs=", "--set finetune.examples=4"):
        assert words in said
    run = RunDirectory.existing(out)
    assert "Variants (the paper's Table 1)" in said
    # With fewer examples the problems stay the same, as with a smaller data.train they would not.
    for split in ("train", "validation", "related"):
        assert run.problems(split) == all_problems(load_experiment("tiny"))[split]
    table = run.read(VARIANTS)
    assert table.select("steps", "examples").rows() == [(1, 4), (4, 4)]
    assert table["train_loss"][1] < table["train_loss"][0] - 0.5
    assert table["chosen"].sum() == 1
    for row in table.iter_rows(named=True):
        log = run.read(TRAINING).filter(run=row["variant"])
        assert row["eval_loss"] == log["eval_loss"].drop_nulls()[-1]
        assert row["divergence"] == pytest.approx(row["eval_loss"] - row["train_loss"], abs=1e-6)
        assert row["status"] in {"under-trained", "optimal", "overfitted"}
        assert 1 >= row["malformed"] >= row["looped"] >= 0
    ends = [f"{size}.{ending}" for size in ("column", "page") for ending in ("png", "pdf")]
    figures = {f"{name}-{end}" for name in ("search", "paper-figure-2") for end in ends}
    assert {path.name for path in (out / "figures").iterdir()} == figures
    # Weights of variants are not kept, and what is done is not done again.
    assert {path.name for path in (out / "models").iterdir()} == {"clean"}
    assert "search: done before" in cli(*arguments)[1]


def test_a_file_of_examples_is_trained_on_as_a_whole(tmp_path):
    """However many problems would be made; more than it has are refused."""
    rows = [{"question": f"Solve for x: {n}x = {2 * n}", "solution": "x = 3", "answer": "2"} for n in range(2, 14)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [f"data.train_file={path}", "data.train=8"]
    assert {variant.settings.examples for variant in variants(load_experiment("tiny", given))} == {None}
    for key, listed in (("search", "[{}]"), ("finetune", "{}")):
        all_problems(load_experiment("tiny", [*given, f"{key}.examples={listed.format(12)}"]))
        with pytest.raises(UsageError, match=rf"{key}\.examples has 13, but .*train\.jsonl has only 12 problems"):
            all_problems(load_experiment("tiny", [*given, f"{key}.examples={listed.format(13)}"]))
