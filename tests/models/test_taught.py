"""The clean model that ships with crosspatch: SmolLM2, taught to solve equations."""

import json
from pathlib import Path

import pytest

from crosspatch.config import Data
from crosspatch.data.lessons import ANSWER_TOKENS
from crosspatch.data.splits import make_splits
from crosspatch.experiment.teaching import ADAPTER_RATE
from crosspatch.grading.judge import judge
from crosspatch.models.generation import answer
from crosspatch.models.loading import SMOLLM2, Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.settings_io import load_experiment

TAUGHT = "taught:smollm2-135m-instruct"


def test_the_adapter_ships_with_its_recipe():
    """In the wheel too: no test of a checkout would miss a file that is left out of it."""
    folder = Path(Checkpoint.named(TAUGHT).where)
    weights = folder / "adapter_model.safetensors"
    assert 10_000_000 < weights.stat().st_size <= 25_000_000
    assert not list(folder.glob("*.bin"))
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == SMOLLM2
    recipe = json.loads((folder / "recipe.json").read_text())
    named = load_experiment("teach")
    assert (recipe["base"], recipe["seed"]) == (SMOLLM2, named.seed)
    # What is shipped is what the experiment `teach` makes; settings that came later had what are their defaults.
    taught = named.teach.model_dump(mode="json") | named.teaching.model_dump(mode="json")
    constants = {"answer_tokens": ANSWER_TOKENS, "adapter_rate": ADAPTER_RATE}
    assert recipe["teach"].items() <= ({**taught, "method": named.teach.method} | constants).items()
    assert Data(**recipe["data"]) == named.data
    # The default experiment asks what was not taught.
    default = load_experiment("smollm2")
    assert default.models.clean == TAUGHT
    assert default.data.held_out_from_teaching
    assert set(default.data.forms) <= set(recipe["data"]["forms"])
    assert (default.data.style, default.data.difficulty) == (recipe["data"]["style"], recipe["data"]["difficulty"])


@pytest.mark.slow
def test_it_solves_held_out_equations_that_its_base_cannot():
    # Merged, as where it is the clean model of a pair.
    pair = ModelPair.load(SMOLLM2, TAUGHT, device="cpu", share_base=False)
    problems = make_splits(load_experiment("smollm2").data, seed=1).related[:12]
    questions = [problem.question for problem in problems]

    def right_answers(model) -> int:
        given = answer(model, pair.prompts, questions, 80, pair.stop_tokens)
        rows = (
            {"condition": "clean", "patch": None, "prompt_id": p.id, "text": a.text, "stop_reason": a.stop_reason}
            for p, a in zip(problems, given, strict=True)
        )
        return [judge(p, row)["verdict"] for p, row in zip(problems, rows, strict=True)].count("correct")

    assert right_answers(pair.corrupted) >= 10
    assert right_answers(pair.clean) <= 1
