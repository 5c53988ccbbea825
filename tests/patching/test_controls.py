"""Controls: what they move, in which cells, and that the patch itself is among what they can say."""

from __future__ import annotations

import pytest
import torch

from crosspatch.patching.controls import Followed, score_control
from crosspatch.patching.engine import Prompt, run_cached
from crosspatch.patching.given_text import GivenText, TextReader
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from engines import TOLERANCE
from pairs import QUESTION, QUESTIONS, architecture_pair, components_of

RUN = PatchRun(max_new_tokens=10)
DIRECTIONS = ["corrupt", "repair"]


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "gpt_neox"])
def case(request):
    """A pair, the text of a prompt with patches of all components, and another prompt's."""
    pair = architecture_pair(request.param)
    patches = patch_grid([1, 3], 4, components_of(request.param), heads=[2], n_heads=4)
    texts = []
    for question in (QUESTION, QUESTIONS[2]):
        ids = pair.encode(question)
        texts.append(GivenText(ids, run_cached(pair, [Prompt(ids, [], answers=True)], RUN)[0].target.tokens))
    steps = {patch: [1, 4, 7] if i % 2 else [0, 4, 9] for i, patch in enumerate(patches)}
    return pair, Followed(texts[0], steps), texts[1]


def patched(trajectories, followed):
    """ΔL of each patch at each of its steps, and that nothing was moved at others."""
    for trajectory in trajectories:
        assert [i for i, step in enumerate(trajectory.steps) if step["applied"]] == sorted(
            followed.steps[trajectory.patch]
        )
    return {
        (t.patch.name, i): step["delta_patched"] for t in trajectories for i, step in enumerate(t.steps) if step["applied"]
    }


def deltas(trajectories, followed, name):
    return {(t.patch.name, i): t.steps[i][name] for t in trajectories for i in followed.steps[t.patch]}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_model_patched_into_itself_is_itself(case, direction):
    pair, followed, _ = case
    run = PatchRun(direction)
    found = score_control(pair, followed, run, "self")
    own = deltas(found, followed, "delta_clean" if direction == "corrupt" else "delta_corrupted")
    assert patched(found, followed) == pytest.approx(own, abs=TOLERANCE)
    # And the source is not: there is something to tell apart.
    _, source = pair.oriented(direction)
    moved = patched(score_control(pair, followed, run, source), followed)
    assert max(abs(moved[key] - own[key]) for key in own) > 100 * TOLERANCE


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_source_as_a_control_is_the_patch(case, direction):
    pair, followed, _ = case
    run = PatchRun(direction)
    _, source = pair.oriented(direction)
    found = patched(score_control(pair, followed, run, source), followed)
    exact = score_tokens(pair, followed.given.prompt, followed.given.text, list(followed.steps), run)
    assert found == pytest.approx(deltas(exact, followed, "delta_patched"), abs=TOLERANCE)


def test_another_prompts_difference_is_the_patch_where_it_is_the_same_prompt(case):
    pair, followed, other = case
    same = patched(score_control(pair, followed, RUN, "other_prompt", other=followed.given), followed)
    exact = score_tokens(pair, followed.given.prompt, followed.given.text, list(followed.steps), RUN)
    assert same == pytest.approx(deltas(exact, followed, "delta_patched"), abs=TOLERANCE)
    elsewhere = patched(score_control(pair, followed, RUN, "other_prompt", other=other), followed)
    assert max(abs(same[key] - elsewhere[key]) for key in same) > 100 * TOLERANCE


def test_a_random_direction_is_as_long_as_the_difference_and_seeded(case):
    pair, followed, _ = case
    first, again, another = (
        patched(score_control(pair, followed, RUN, "random", generator=torch.Generator().manual_seed(seed)), followed)
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != another
    from crosspatch.patching import controls

    steps, sites = followed.all_steps, followed.sites
    moved = controls._activations(pair, followed, RUN, "random", None, torch.Generator().manual_seed(0))
    here, there = (TextReader(model, followed.given).activations(steps, sites) for model in (pair.clean, pair.corrupted))
    for site in sites:
        pushed, apart = moved[site] - here[site], there[site] - here[site]
        assert pushed.norm(dim=-1).tolist() == pytest.approx(apart.norm(dim=-1).tolist(), rel=1e-3)
        assert not torch.allclose(pushed, apart, atol=1e-4)


def test_what_a_control_needs_is_asked_for(case):
    pair, followed, _ = case
    with pytest.raises(ValueError, match="generator"):
        score_control(pair, followed, RUN, "random")
    with pytest.raises(ValueError, match="another prompt"):
        score_control(pair, followed, RUN, "other_prompt")


def test_a_patch_of_several_places_moves_them_all(case):
    pair, followed, _ = case
    patch = Patch.parse("L1.attn_out+L2.mlp_out")
    joint = Followed(followed.given, {patch: [2, 3]})
    found = patched(score_control(pair, joint, RUN, pair.corrupted), joint)
    exact = score_tokens(pair, joint.given.prompt, joint.given.text, [patch], RUN)
    assert found == pytest.approx(deltas(exact, joint, "delta_patched"), abs=TOLERANCE)
