"""Teaching: lessons made, an adapter trained, and its accuracy before and after written beside it."""

import json
import pickle
from contextlib import nullcontext
from itertools import product

import pytest
import torch

from crosspatch.data.lessons import read_lessons
from crosspatch.experiment import teaching
from crosspatch.models.loading import Checkpoint
from crosspatch.storage.run import RunDirectory
from crosspatch.training import processes, self_distillation
from tuning_examples import interrupted_at

SETTINGS = [
    *("data.held_out_from_teaching=true", "data.style=terse", "data.difficulty=easy", "data.forms=linear_two_step"),
    *("data.train=2", "teach.problems=24", "teach.arithmetic_exercises=4", "teach.unrelated_math=4", "teach.general=2"),
    *("teach.learning_rate=0.01", "teach.adapter_finetuning=8", "generation.max_new_tokens=8"),
]
COMMAND = ("teach", "tiny", *(f"--set={setting}" for setting in SETTINGS))


@pytest.fixture(autouse=True)
def any_question(monkeypatch):
    """A random model's questions are no sentences: any will do."""
    monkeypatch.setattr(teaching, "ANSWER_TOKENS", 8)
    monkeypatch.setattr(self_distillation, "_QUESTION", self_distillation.re.compile(r"(?s).{12,}"))


def test_a_taught_model_is_an_adapter_with_its_recipe(tmp_path, cli, monkeypatch):
    out, sent = tmp_path / "run", []
    # As it reaches other processes that train along.
    monkeypatch.setattr(processes, "announce", lambda job, cpu: sent.append(pickle.loads(pickle.dumps(job)).keywords))
    said = cli(*COMMAND, "--out", out, code=0).out
    assert "Right answers" in said
    lessons = {"arithmetic": 4, "general": 2, "new": 6, "problem": 24, "unrelated_math": 4}
    assert ", ".join(f"{count} {name} lessons" for name, count in lessons.items()) in said
    jobs = [(job["name"], len(job["train"]), len(job["validation"])) for job in sent]
    assert jobs == [("taught-whole", 31, 3), ("taught", 8, 3)]
    assert all(job["settings"].precision != "auto" for job in sent)
    run = RunDirectory.existing(out)
    folder = run.model("taught")
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["base"] == "random:qwen3"
    assert recipe["teach"]["problems"] == 24
    # 34 lessons, of which 3 are held out; then 6 new ones, and the general ones again.
    assert recipe["steps"] == {"taught-whole": 2, "taught": 1}
    new, before = (read_lessons(out / "lessons" / f"{name}.jsonl") for name in ("new", "problem"))
    assert [lesson.kind for lesson in new] == ["problem"] * 4 + ["arithmetic"] * 2
    assert not {lesson.question for lesson in new} & {lesson.question for lesson in before}
    assert sorted(path.name for path in (out / "models").iterdir()) == ["clean", "taught"]
    asked = [("related", 4), ("unrelated_math", 2), ("general", 2)]
    measured = [(row["condition"], (row["domain"], row["n"])) for row in recipe["accuracy"]]
    assert set(measured) == set(product(("clean", "taught"), asked))
    assert set(recipe["lessons"]) == {"problem", "arithmetic", "unrelated_math", "general", "new"}
    assert not (out / "checkpoints").exists()
    with torch.inference_mode():
        tokens = torch.arange(30)[None]
        clean, taught = (Checkpoint.named(str(run.model(name))).model() for name in ("clean", "taught"))
        assert (clean(tokens).logits - taught(tokens).logits).abs().max() > 0.05


def test_a_stopped_teaching_resumes_with_the_lessons_that_are_there(tmp_path, cli, monkeypatch):
    out, lessons = tmp_path / "run", []
    for during in ("taught-whole", "taught", None):
        with interrupted_at(1, monkeypatch, during) if during else nullcontext():
            cli(*COMMAND, "--out", out, code=130 if during else 0)
        lessons.append({path.name: read_lessons(path) for path in (out / "lessons").iterdir()})
        monkeypatch.setattr(teaching, "own_questions", lambda *_: pytest.fail("questions were asked for again"))
    assert lessons[0] == lessons[1] == lessons[2]
    assert sorted(path.name for path in (out / "models").iterdir()) == ["clean", "taught"]
