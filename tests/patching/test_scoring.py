"""Scores along a given text, compared with the published algorithm at each of its steps."""

from __future__ import annotations

import pytest

from crosspatch.errors import UsageError
from crosspatch.patching import scoring
from crosspatch.patching.engine import Prompt, run_cached
from crosspatch.patching.patches import Schedule, patch_grid
from crosspatch.patching.reference import step_scores
from crosspatch.patching.scoring import score, score_tokens
from crosspatch.patching.trajectory import PatchRun
from engines import TOLERANCE, equal_steps, equal_trajectories
from pairs import QUESTION, architecture_pair, components_of

RUN = PatchRun(max_new_tokens=10)


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "gpt_neox"])
def case(request):
    """A pair, a prompt, a text and patches of all components."""
    pair = architecture_pair(request.param)
    patches = patch_grid([1, 3], 4, components_of(request.param), heads=[2], n_heads=4)
    prompt = pair.encode(QUESTION)
    text = run_cached(pair, [Prompt(prompt, [], answers=True)], RUN)[0].target.tokens
    return pair, prompt, text, patches


@pytest.mark.parametrize("direction", ["corrupt", "repair"])
@pytest.mark.parametrize("schedule", ["all", "disagree"])
def test_scores_are_the_references(case, direction, schedule):
    pair, prompt, text, patches = case
    run = PatchRun(direction)
    patches = [type(patch)(patch.sites, Schedule.parse(schedule)) for patch in patches]
    applied = set()
    for trajectory in score_tokens(pair, prompt, text, patches, run):
        assert len(trajectory.steps) == len(text)
        for j, step in enumerate(trajectory.steps[:5]):
            slow = step_scores(pair, prompt + text[:j], trajectory.patch, run, j, [])
            equal_steps(step, slow)
            applied.add(step.applied)
    assert True in applied


def test_in_pieces_is_at_once(case, monkeypatch):
    pair, prompt, text, patches = case
    whole = score_tokens(pair, prompt, text, patches, RUN)
    monkeypatch.setattr(scoring, "CELLS_AT_ONCE", 3 * len(patches))
    equal_trajectories(whole, score_tokens(pair, prompt, text, patches, RUN))


def test_along_its_own_text_a_patch_has_the_scores_of_its_trajectory(case):
    pair, prompt, _, patches = case
    for trajectory in run_cached(pair, [Prompt(prompt, patches[:3])], RUN)[0].trajectories:
        again = score_tokens(pair, prompt, trajectory.tokens, [trajectory.patch], RUN)[0]
        assert again.tokens == trajectory.tokens
        for a, b in zip(again.steps, trajectory.steps, strict=True):
            assert a.delta_patched == pytest.approx(b.delta_patched, abs=TOLERANCE)


def test_as_a_table(case):
    pair, _, text, patches = case
    table = score(pair, "p", QUESTION, text, patches)
    assert table.height == len(text) * len(patches)
    assert set(table["patch"]) == {patch.name for patch in patches}
    assert score(pair, "p", QUESTION, text, [patch.name for patch in patches]).equals(table)
    with pytest.raises(UsageError, match="99"):
        score(pair, "p", QUESTION, text, ["L99.resid_post"])


def test_wrong_use(case):
    pair, prompt, text, patches = case
    with pytest.raises(UsageError, match="only transient"):
        score_tokens(pair, prompt, text, patches, PatchRun(persistence="persistent"))
    with pytest.raises(UsageError, match="got no text"):
        score_tokens(pair, prompt, [], patches, RUN)
