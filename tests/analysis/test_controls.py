"""Controls: what they move, in which cells, and that the patch itself is among what they can say."""

from __future__ import annotations

import pytest
import torch

from crosspatch.analysis import controls
from crosspatch.analysis.controls import ControlReader, PatchedText
from crosspatch.analysis.teacher_forcing import ForcedText, PairReader, TextReader
from crosspatch.patching.engine import Prompt, run_cached
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from engines import TOLERANCE, equal_steps
from pairs import QUESTION, QUESTIONS, architecture_pair, components_of

RUN = PatchRun(max_new_tokens=10)
DIRECTIONS = ["corrupt", "repair"]


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "gpt_neox"])
def case(request):
    """A pair, the text of a prompt with patches of all components, and another prompt's."""
    pair = architecture_pair(request.param)
    patches = patch_grid([0, 1, 3], 4, components_of(request.param), heads=[2], n_heads=4)
    texts = []
    for question in (QUESTION, QUESTIONS[2]):
        ids = pair.encode(question)
        texts.append(ForcedText(ids, run_cached(pair, [Prompt(ids, [], answers=True)], RUN)[0].target.tokens))
    steps = {patch: [1, 4, 7] if i % 2 else [0, 4, 9] for i, patch in enumerate(patches)}
    return pair, PatchedText(texts[0], steps), texts[1]


def scored(pair, followed, control, run=RUN, other=None, seed=0):
    """The scores of each patch at each of its steps under a control."""
    reader = ControlReader(pair, followed, run, other and PairReader(pair, other, run))
    moved = reader.moved(control, torch.Generator().manual_seed(seed))
    return {(patch.name, step): row for _, patch, step, row in reader.score({"it": moved})}


def patched(scores):
    return {key: step.delta_patched for key, step in scores.items()}


def exact(pair, followed, run=RUN):
    """The patch itself, along the same text."""
    trajectories = score_tokens(pair, followed.given.prompt, followed.given.text, list(followed.steps), run)
    return {(t.patch.name, step): t.steps[step] for t in trajectories for step in followed.steps[t.patch]}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_model_patched_into_itself_is_itself(case, direction):
    pair, followed, _ = case
    run = PatchRun(direction)
    found = scored(pair, followed, "self", run)
    own = {key: step.delta_target for key, step in found.items()}
    assert patched(found) == pytest.approx(own, abs=TOLERANCE)
    # And the source is not: there is something to tell apart.
    _, source = pair.target_and_source(direction)
    moved = patched(scored(pair, followed, source, run))
    assert max(abs(moved[key] - own[key]) for key in own) > 100 * TOLERANCE


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("at_once", [2048, 7])
def test_the_source_as_a_control_is_the_patch(case, direction, at_once, monkeypatch):
    pair, followed, _ = case
    run = PatchRun(direction)
    monkeypatch.setattr(controls, "CELLS_AT_ONCE", at_once)
    _, source = pair.target_and_source(direction)
    found, patch = scored(pair, followed, source, run), exact(pair, followed, run)
    assert found.keys() == patch.keys()
    for key, step in found.items():
        equal_steps(step, patch[key])


def test_another_prompts_difference_is_the_patch_where_it_is_the_same_prompt(case):
    pair, followed, other = case
    same = patched(scored(pair, followed, "other_prompt", other=followed.given))
    assert same == pytest.approx(patched(exact(pair, followed)), abs=TOLERANCE)
    elsewhere = patched(scored(pair, followed, "other_prompt", other=other))
    assert max(abs(same[key] - elsewhere[key]) for key in same) > 100 * TOLERANCE


def test_a_random_direction_is_as_long_as_the_difference_and_seeded(case):
    pair, followed, _ = case
    first, again, another = (patched(scored(pair, followed, "random", seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != another
    moved = ControlReader(pair, followed, RUN).moved("random", torch.Generator().manual_seed(0))
    steps, sites = followed.all_steps, followed.sites
    here, there = (
        TextReader(model, followed.given).activations(steps, sites) for model in (pair.clean, pair.corrupted)
    )
    for site in sites:
        pushed, apart = moved[site] - here[site], there[site] - here[site]
        assert pushed.norm(dim=-1).tolist() == pytest.approx(apart.norm(dim=-1).tolist(), rel=1e-3)
        assert not torch.allclose(pushed, apart, atol=1e-4)


def test_controls_scored_together_are_as_they_are_alone(case):
    pair, followed, other = case
    reader = ControlReader(pair, followed, RUN, PairReader(pair, other, RUN))
    moves = {"self": reader.moved("self"), "other_prompt": reader.moved("other_prompt"), "it": reader.moved(pair.clean)}
    together = {(name, patch.name, step): row.delta_patched for name, patch, step, row in reader.score(moves)}
    for name, control in (("self", "self"), ("other_prompt", "other_prompt"), ("it", pair.clean)):
        alone = patched(scored(pair, followed, control, other=other))
        assert {key[1:]: value for key, value in together.items() if key[0] == name} == pytest.approx(
            alone, abs=TOLERANCE
        )


def test_what_a_control_needs_is_asked_for(case):
    pair, followed, _ = case
    reader = ControlReader(pair, followed, RUN)
    with pytest.raises(ValueError, match="generator"):
        reader.moved("random")
    with pytest.raises(ValueError, match="another prompt"):
        reader.moved("other_prompt")


def test_a_patch_of_several_places_moves_them_all(case):
    pair, followed, _ = case
    joint = PatchedText(followed.given, {Patch.parse("L1.attn_out+L2.mlp_out"): [2, 3]})
    assert patched(scored(pair, joint, pair.corrupted)) == pytest.approx(patched(exact(pair, joint)), abs=TOLERANCE)
