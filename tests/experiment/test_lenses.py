"""The lenses stage: what is compared and steered, and that a stopped one goes on."""

from __future__ import annotations

import pytest
import torch

from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun
from crosspatch.experiment import lenses as stage
from crosspatch.experiment.checks import check_lenses
from crosspatch.experiment.lenses import measure_lenses
from crosspatch.settings_io import load_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import ACTIVATIONS, BEHAVIOUR, GENERATIONS, LOGIT_LENS, STEERED, STEERED_RANDOM, WEIGHTS
from sweeps import copy_of

SMALL = [
    "generation.max_new_tokens=10",
    "controls=twin",
    "lenses.layers=1,3",
    "lenses.related=3",
    "lenses.component=resid_post,head",
]


def run_of(out, *settings) -> ExperimentRun:
    run = ExperimentRun.start(load_experiment("tiny", [*SMALL, *settings]), out)
    run.run("finetune")
    return run


def tables(directory: RunDirectory) -> list:
    return [
        directory.read(WEIGHTS),
        directory.read(ACTIVATIONS),
        directory.read(LOGIT_LENS),
        directory.read(GENERATIONS).sort("prompt_id", "condition", "patch"),
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run as far as its models."""
    return run_of(tmp_path_factory.mktemp("lenses") / "run").directory.root


@pytest.fixture(scope="module")
def finished(trained, tmp_path_factory):
    run = run_of(copy_of(trained, tmp_path_factory.mktemp("lenses") / "run"))
    measure_lenses(run.context)
    return run


def test_every_child_is_compared_along_the_same_answers(finished):
    directory = finished.directory
    names = [problem.id for problem in (*finished.context.patched_problems, directory.problems("related")[2])]
    weights, activations, lens = (directory.read(schema) for schema in (WEIGHTS, ACTIVATIONS, LOGIT_LENS))
    for table in (weights, activations, lens):
        assert set(table["child"]) == {"corrupted", "twin"}
    for child in ("corrupted", "twin"):
        own = activations.filter(child=child, at="all")
        assert own["prompt_id"].unique(maintain_order=True).to_list() == names
        assert own.filter(component="resid_post").height == len(names) * 4
        assert own.filter(component="head").height == len(names) * 4 * 4
        # Both models read one text, so there are as many steps for each child.
        assert own["steps"].to_list() == activations.filter(child="twin", at="all")["steps"].to_list()
    # And the children are not one.
    assert not weights.filter(child="corrupted")["delta_norm"].equals(weights.filter(child="twin")["delta_norm"])
    disagreeing = activations.filter(at="disagree")
    assert set(lens.select("child", "prompt_id").rows()) == set(disagreeing.select("child", "prompt_id").rows())


def test_the_related_prompts_are_answered_steered_and_graded(finished):
    directory = finished.directory
    patches = {f"L{layer}.resid_post*{strength}" for layer in (1, 3) for strength in (1, 2)}
    for condition in (STEERED, STEERED_RANDOM):
        texts = directory.read(GENERATIONS).filter(condition=condition)
        assert set(texts["patch"]) == patches
        assert set(texts["prompt_id"]) == {"related-000", "related-001"}
        assert texts.height == 8
        assert directory.read(BEHAVIOUR).filter(condition=condition).height == 8
    steered = directory.read(GENERATIONS).filter(condition=STEERED).sort("patch", "prompt_id")["text"]
    by_chance = directory.read(GENERATIONS).filter(condition=STEERED_RANDOM).sort("patch", "prompt_id")["text"]
    assert not steered.equals(by_chance)


def test_what_is_there_is_not_made_again(finished, monkeypatch):
    before = tables(finished.directory)
    for name in ("_compare", "_answer_steered", "_deltas"):
        monkeypatch.setattr(stage, name, lambda *_: pytest.fail("was there"))
    measure_lenses(finished.context)
    assert all(a.equals(b) for a, b in zip(tables(finished.directory), before, strict=True))


@pytest.mark.parametrize(("into", "count"), [((WEIGHTS, ACTIVATIONS, LOGIT_LENS), 4), ((GENERATIONS,), 6)])
def test_a_stopped_stage_goes_on_and_comes_to_the_same(trained, finished, tmp_path, monkeypatch, into, count):
    run, original, done = run_of(copy_of(trained, tmp_path / "run")), RunDirectory.add, []

    def stopping(self, schema, rows):
        if schema in into:
            if len(done) == count:
                raise KeyboardInterrupt
            done.append(schema)
        return original(self, schema, rows)

    monkeypatch.setattr(RunDirectory, "add", stopping)
    with pytest.raises(KeyboardInterrupt):
        measure_lenses(run.context)
    monkeypatch.setattr(RunDirectory, "add", original)
    measure_lenses(run.context)
    assert all(a.equals(b) for a, b in zip(tables(run.directory), tables(finished.directory), strict=True))


def test_a_prompt_is_steered_by_the_others_of_its_domain(finished, monkeypatch):
    """Its own deltas, and those of other domains, may be anything; those of the others may not."""
    context, problems = finished.context, stage._problems(finished.context)
    asked = {name: problems[name] for name in ("related-000", "related-001")}
    deltas = stage._deltas(context, (1,), problems)[1]
    assert deltas.keys() == problems.keys()
    plain = stage._vectors(context, 1, asked, deltas)
    for name, problem in problems.items():
        changed = stage._vectors(context, 1, asked, {**deltas, name: torch.randn(5, 48)})
        same = {key: torch.equal(changed[STEERED][key], plain[STEERED][key]) for key in asked}
        assert same == {key: key == name or problem.domain != "related" for key in asked}
    for name in asked:
        length = float(plain[STEERED][name].norm())
        assert float(plain[STEERED_RANDOM][name].norm()) == pytest.approx(length, rel=1e-5)
        assert float(torch.cosine_similarity(plain[STEERED_RANDOM][name], plain[STEERED][name], dim=0)) < 0.6


def test_without_another_prompt_nothing_is_steered_and_that_is_said(tmp_path, caplog):
    run = run_of(tmp_path / "run", "patch.related=1", "lenses.related=0")
    measure_lenses(run.context)
    assert "no other prompt has a difference to steer related-000 by" in caplog.text
    assert not set(run.directory.read(GENERATIONS)["condition"]) & {STEERED, STEERED_RANDOM}
    assert run.directory.read(ACTIVATIONS)["prompt_id"].n_unique() == 3


def test_given_prompts_are_steered_and_none_can_be_wanted(tmp_path, monkeypatch):
    questions = "patch.questions=[Solve 2x = 6, Solve x + 1 = 4, Solve 5x = 10]"
    run = run_of(tmp_path / "given", questions, "lenses.related=0", "lenses.strengths=1", "lenses.layers=2")
    measure_lenses(run.context)
    assert run.directory.read(GENERATIONS).filter(condition=STEERED)["patch"].to_list() == ["L2.resid_post*1"] * 3
    monkeypatch.setattr(stage, "steered_answers", lambda *_: pytest.fail("none is wanted"))
    none = run_of(tmp_path / "none", "lenses.strengths=[]")
    measure_lenses(none.context)
    assert set(none.directory.read(GENERATIONS)["condition"]) == {"clean"}


def test_layers_that_are_not_there_are_refused():
    check_lenses(load_experiment("tiny", SMALL))
    with pytest.raises(UsageError, match="layer 4 is out of range"):
        check_lenses(load_experiment("tiny", ["lenses.layers=4"]))
    with pytest.raises(UsageError, match="layers count from 0"):
        load_experiment("tiny", ["lenses.layers=-1"])
