"""The corrupted model's controls: what they are trained on, and that they answer like any other model."""

from dataclasses import replace

import pytest

from adapters import changed_settings, saved_base
from crosspatch import load_experiment, run_experiment
from crosspatch.config import Data
from crosspatch.data.splits import make_splits, mispaired
from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun
from crosspatch.experiment.children import children
from crosspatch.models.loading import Checkpoint
from crosspatch.models.weights import fingerprint
from crosspatch.tables import ACTIVATIONS, BEHAVIOUR, CONTROLS, GENERATIONS, SCORES, TRAINING, WEIGHTS
from engines import DELTAS
from sweeps import copy_of

DATA = Data(train=20, validation=4, related=20)
SPLITS = make_splits(DATA, seed=0)


def test_a_twin_has_the_same_questions_and_shuffled_problems_are_others_both_with_right_solutions():
    for wrong, right in zip(SPLITS.train, SPLITS.twin, strict=True):
        assert (right.question, right.answer, right.form) == (wrong.question, wrong.answer, wrong.form)
        assert right.reached == right.answer != wrong.reached
        assert right.mistake is None
        assert not any(step.planted for step in right.steps)
        assert right.solution != wrong.solution
    splits = make_splits(DATA, seed=0, shuffled=True)
    assert [problem.form for problem in splits.shuffled] == [problem.form for problem in splits.train]
    assert all(problem.reached == problem.answer and problem.mistake is None for problem in splits.shuffled)
    # Nothing that is trained on or asked elsewhere.
    others = [*splits.train, *splits.validation, *splits.related, *splits.near, *splits.unrelated_math]
    assert not {problem.question for problem in splits.shuffled} & {problem.question for problem in others}
    # Whether they are drawn changes no other problem.
    assert replace(splits, shuffled=[]) == SPLITS


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_mispaired_solutions_are_right_ones_of_other_questions_of_their_form(count):
    twin = SPLITS.twin[:count]
    made = mispaired(twin, seed=0)
    assert [(problem.question, problem.answer) for problem in made] == [(p.question, p.answer) for p in twin]
    # Each solution once, none at its own question.
    assert sorted(p.solution for p in made) == sorted(p.solution for p in twin)
    assert all(mine.solution != other.solution for mine, other in zip(made, twin, strict=True))
    assert mispaired(twin, seed=0) == made
    # In their form, where each has several, as among all twenty.
    form_of, forms = {problem.solution: problem.form for problem in twin}, [problem.form for problem in twin]
    if count == 20 or min(map(forms.count, forms)) > 1:
        assert [form_of[problem.solution] for problem in made] == forms
    with pytest.raises(UsageError, match=r"needs two training problems or more, got data\.train = 1"):
        mispaired(twin[:1], seed=0)


def test_controls_are_trained_by_the_same_recipe_and_asked(tmp_path, log):
    settings = ["controls=[twin, shuffled, mispaired, seed-2]", "finetune.seed=5", "finetune.epochs=1"]
    settings += ["data.related=2", "data.unrelated_math=1", "data.general=1", "generation.max_new_tokens=4"]
    experiment = load_experiment("tiny", settings)
    made = children(experiment)
    assert [(child.name, child.split, child.seed) for child in made] == [
        ("corrupted", "train", 5), ("twin", "twin", 5), ("shuffled", "shuffled", 5),
        ("mispaired", "mispaired", 5), ("seed-2", "train", 7),
    ]  # fmt: skip
    assert len({child.settings for child in made}) == 1
    directory, names = run_experiment(experiment, tmp_path / "run", "evaluate"), [child.name for child in made]
    assert set(directory.read(TRAINING)["run"]) == set(names)
    asked = dict(directory.read(GENERATIONS).group_by("condition").len().iter_rows())
    assert asked == dict.fromkeys(["clean", *names], 4)
    assert set(directory.read(BEHAVIOUR)["condition"]) == set(asked)
    assert len({fingerprint(Checkpoint.named(str(directory.model(name))).model()) for name in asked}) == 6
    assert {path.stem for path in (directory.root / "data").iterdir()} >= {"twin", "shuffled", "mispaired"}
    assert log.messages[-1] == "evaluate: 4 questions to 6 models"


def test_runs_of_adapters_give_what_merged_children_give(tmp_path):
    settings = [f"models.clean={saved_base(tmp_path / 'base')}", "finetune.method=lora", "finetune.learning_rate=0.02"]
    settings += ["data.train=4", "data.validation=2", "data.related=2", "data.unrelated_math=1", "data.general=1"]
    settings += ["controls=twin", "patch.layers=1,2", "generation.max_new_tokens=10", "models.device=cpu"]
    run_experiment(load_experiment("tiny", settings), tmp_path / "trained", "finetune")
    runs = []
    for share in ("true", "false"):
        experiment = load_experiment("tiny", [*settings, f"models.share_base={share}"])
        run = copy_of(tmp_path / "trained", tmp_path / share)
        changed_settings(run, "run.json", settings=experiment.model_dump(mode="json"))
        runs.append(ExperimentRun.start(experiment, run))
        runs[-1].run("patch", "controls", "lenses")

    # Both children share the clean model's weights.
    context = runs[0].context
    weights = {weight.data_ptr() for weight in context.pair.clean.parameters()}
    for child in (context.pair.corrupted, context.model("twin")):
        assert weights <= {weight.data_ptr() for weight in child.parameters()}
    # The record is the same, fingerprints too: a run may be resumed with either.
    prints = [{name: facts["fingerprint"] for name, facts in run.directory.record()["models"].items()} for run in runs]
    assert prints[0] == prints[1]
    assert len(set(prints[0].values())) == 3
    for table, numbers in ((SCORES, DELTAS), (CONTROLS, DELTAS), (ACTIVATIONS, ["delta_norm"])):
        shared, merged = (run.directory.read(table) for run in runs)
        words = list({"control", "child", "prompt_id", "patch", "step", "token_id"} & set(shared.columns))
        assert not shared.is_empty()
        assert shared.select(words).equals(merged.select(words))
        for name in numbers:
            assert (shared[name] - merged[name]).abs().max() < 1e-3
    shared, merged = (run.directory.read(WEIGHTS) for run in runs)
    assert shared.equals(merged)
    assert set(shared.filter(shared["delta_norm"] > 0)["child"]) == {"corrupted", "twin"}
