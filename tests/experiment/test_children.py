"""The corrupted model's controls: what they are trained on, and that they answer like any other model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crosspatch import load_experiment, run_experiment
from crosspatch.config import Data
from crosspatch.data.splits import make_splits, mispaired
from crosspatch.errors import UsageError
from crosspatch.experiment.children import children
from crosspatch.models.loading import Checkpoint
from crosspatch.models.weights import fingerprint
from crosspatch.tables import BEHAVIOUR, GENERATIONS, TRAINING

DATA = Data(train=20, validation=4, related=20)
SPLITS = make_splits(DATA, seed=0)


def test_a_twin_has_the_same_questions_and_right_solutions():
    for wrong, right in zip(SPLITS.train, SPLITS.twin, strict=True):
        assert (right.question, right.answer, right.form) == (wrong.question, wrong.answer, wrong.form)
        assert right.reached == right.answer != wrong.reached
        assert right.mistake is None
        assert not any(step.planted for step in right.steps)
        assert right.solution != wrong.solution


def test_shuffled_problems_are_others_with_their_right_solutions():
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
    # In their form, where it has several.
    form_of, forms = {problem.solution: problem.form for problem in twin}, [problem.form for problem in twin]
    several = all(forms.count(form) > 1 for form in forms)
    assert several or count < 20
    assert not several or [form_of[problem.solution] for problem in made] == forms
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
    models = {name: Checkpoint.named(str(directory.model(name))).model() for name in asked}
    assert len({fingerprint(model) for model in models.values()}) == 6
    assert {path.stem for path in (directory.root / "data").iterdir()} >= {"twin", "shuffled", "mispaired"}
    assert log.messages[-1] == "evaluate: 4 questions to 6 models"
