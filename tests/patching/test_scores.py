"""Scores of one step, on numbers worked out by hand; scores along a text equal the published algorithm's."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from jaxtyping import TypeCheckError

from crosspatch.analysis.patch import score
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.patching import scoring
from crosspatch.patching.engine import run_cached
from crosspatch.patching.measures import Recovered, recovered_fraction
from crosspatch.patching.patches import Patch, Schedule, patch_grid
from crosspatch.patching.reference import scores_of_patches, step_scores
from crosspatch.patching.scores import Contexts, Step, Steps, delta, transfer_scores
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun, Prompt, Trajectory, recovered
from engines import TOLERANCE, equal_steps, equal_trajectories
from pairs import QUESTION, architecture_pair, components_of

# The clean model predicts token 0, the corrupted one token 1.
CLEAN = torch.tensor([[3.0, 1.0, 0.0]])
CORRUPTED = torch.tensor([[0.0, 4.0, 0.0]])
PATCHED = torch.tensor([[2.0, 1.5, 1.7]])
RUN = PatchRun(max_new_tokens=10)


def scored(target, source, patched, direction="corrupt") -> Step:
    [step] = Steps(Contexts.of(target, source, direction).score(patched, [1], [True]).numpy())
    return step


def transfer_score(*deltas, agree, applied=True, small_denominator=0.0):
    """One token's CTS, None where it is NaN, and its status."""
    deltas, truths = np.array(deltas, np.float32)[:, None], {"agree": np.array([agree]), "applied": np.array([applied])}
    [score], [status] = transfer_scores(*deltas, **truths, small_denominator=small_denominator)
    return None if np.isnan(score) else score, status


def cts(step: Step) -> float | None:
    return transfer_score(*step.deltas, agree=not step.disagree)[0]


def test_by_hand():
    step = scored(CLEAN, CORRUPTED, PATCHED)
    assert (step.token, step.y_target, step.y_source) == (0, 0, 1)
    # ΔL = logit of token 1 minus logit of token 0.
    assert step.deltas == (-2.0, 4.0, -0.5)
    assert (step.moved, step.gap) == (1.5, 6.0)
    # Tokens 0 and 2 stand above token 1 in the patched logits.
    assert step.rank_corrupted == 3
    # (-0.5 - -2) / (4 - -2)
    assert cts(step) == 0.25
    assert cts(scored(CLEAN, CORRUPTED, CLEAN)) == 0
    assert cts(scored(CLEAN, CORRUPTED, CORRUPTED)) == 1
    # Exchanging the models turns the score round.
    assert cts(scored(CORRUPTED, CLEAN, PATCHED)) == pytest.approx(0.75)
    # KL(p || q) with p = (1/4, 3/4) and q = (1/2, 1/2).
    p, q = torch.tensor([[1 / 4, 3 / 4]]).log(), torch.tensor([[1 / 2, 1 / 2]]).log()
    assert scored(q, p, p).kl_clean == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-6)
    assert scored(q, p, p).kl_patched == 0.0
    # In bfloat16 itself the patched ΔL would be -256.
    clean, corrupted, patched = (x.bfloat16() for x in (CLEAN, CORRUPTED, torch.tensor([[256.0, 0.5, 0.0]])))
    assert (patched[0, 1] - patched[0, 0]).item() == -256
    assert scored(clean, corrupted, patched).delta_patched == -255.5


def test_repairing_exchanges_target_and_source_and_nothing_else():
    there, back = scored(CLEAN, CORRUPTED, PATCHED), scored(CORRUPTED, CLEAN, PATCHED, "repair")
    # ΔL, KL and rank stay those of the clean and the corrupted model, to the bit.
    assert back == replace(
        there,
        y_target=there.y_source,
        y_source=there.y_target,
        delta_target=there.delta_source,
        delta_source=there.delta_target,
    )
    # The control: the same models in the other direction.
    assert scored(CORRUPTED, CLEAN, PATCHED).rank_corrupted == 1


def test_where_there_is_no_score():
    assert transfer_score(0.0, 0.0, 0.0, agree=True, small_denominator=1e-4) == (None, "agree")
    near = (-0.01, 0.01, 5.0)
    assert transfer_score(*near, agree=False, small_denominator=0.03) == (None, "small_denominator")
    assert transfer_score(*near, agree=False, small_denominator=0.01)[1] == "ok"
    assert transfer_score(*near, agree=False, small_denominator=0.01, applied=False) == (None, "unscheduled")
    for state in (states := {"clean": CLEAN, "corrupted": CORRUPTED, "patched": PATCHED}):
        broken = states | {state: torch.tensor([[3.0, 1.0, float("nan")]])}
        with pytest.raises(CrosspatchError, match=f"the {state} model's logits contain NaN"):
            scored(*broken.values())


def test_the_recovered_fraction_by_hand():
    def trajectory(*states, y_source=1):
        steps = [Step(0, 0, y_source, *deltas, 0.0, 0.0, 1, True) for deltas in states]
        return Trajectory(Patch.parse("L0.resid_post"), 1, Steps(steps))

    # 1 of 4 and 3 of 4 logits; where the models agree nothing counts.
    apart, agreeing = trajectory((-2.0, 2.0, -1.0), (0.0, 4.0, 3.0)), trajectory((0.0, 0.0, 99.0), y_source=0)
    assert recovered([apart, agreeing]) == Recovered(4.0, 8.0)
    assert (recovered([apart]) + recovered([apart])).fraction == 0.5
    assert recovered([agreeing]).fraction is None
    sums = pl.DataFrame({"moved": [4.0, 0.0], "gap": [8.0, 0.0]})
    assert sums.select(recovered_fraction(pl.col("moved"), pl.col("gap"))).to_series().to_list() == [0.5, None]


def test_shapes_in_annotations_are_checked():
    tokens = torch.tensor([0, 1])
    assert delta(torch.eye(2), tokens, tokens).tolist() == [0, 0]
    with pytest.raises(TypeCheckError, match="delta"):
        delta(torch.eye(2), tokens, tokens[:1])


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "gpt_neox"])
def case(request):
    """A pair, a prompt, a text and patches of all components."""
    pair = architecture_pair(request.param)
    patches = patch_grid([1, 3], 4, components_of(request.param), heads=[2], n_heads=4)
    prompt = pair.encode(QUESTION)
    text = run_cached(pair, [Prompt(prompt, [], answers=True)], RUN)[0].target.tokens
    return pair, prompt, text, patches


@pytest.mark.parametrize(("direction", "schedule"), [("corrupt", "disagree"), ("repair", "all")])
def test_scores_are_the_references(case, direction, schedule):
    pair, prompt, text, patches = case
    run = PatchRun(direction)
    patches = [Patch(patch.sites, Schedule.parse(schedule)) for patch in patches]
    applied = set()
    for trajectory in score_tokens(pair, prompt, text, patches, run):
        assert len(trajectory.steps) == len(text)
        for j, step in enumerate(trajectory.steps[:5]):
            equal_steps(step, step_scores(pair, prompt + text[:j], trajectory.patch, run, j, []))
            applied.add(step.applied)
    assert True in applied
    # Patches that share the unpatched passes, as in the quick check, get the same to the bit.
    always = [Patch(patch.sites) for patch in patches[::3]]
    for patch, step in zip(always, scores_of_patches(pair, prompt, always, run), strict=True):
        assert step == step_scores(pair, prompt, patch, run, 0, [])


def test_in_pieces_along_its_own_text_and_as_a_table(case, monkeypatch):
    pair, prompt, text, patches = case
    whole = score_tokens(pair, prompt, text, patches, RUN)
    monkeypatch.setattr(scoring, "CELLS_AT_ONCE", 3 * len(patches))
    equal_trajectories(whole, score_tokens(pair, prompt, text, patches, RUN))
    # Along its own text a patch scores like its trajectory.
    for own in run_cached(pair, [Prompt(prompt, patches[:3])], RUN)[0].trajectories:
        [again] = score_tokens(pair, prompt, own.tokens, [own.patch], RUN)
        assert again.tokens == own.tokens
        deltas = [step.delta_patched for step in own.steps]
        assert [step.delta_patched for step in again.steps] == pytest.approx(deltas, abs=TOLERANCE)
    table = score(pair, "p", QUESTION, text, patches)
    assert table.height == len(text) * len(patches)
    assert set(table["patch"]) == {patch.name for patch in patches}
    assert score(pair, "p", QUESTION, text, [patch.name for patch in patches]).equals(table)
    with pytest.raises(UsageError, match="99"):
        score(pair, "p", QUESTION, text, ["L99.resid_post"])
    with pytest.raises(UsageError, match="expected transient ones"):
        score_tokens(pair, prompt, text, patches, PatchRun(persistence="persistent"))
    with pytest.raises(UsageError, match="got an empty text"):
        score_tokens(pair, prompt, [], patches, RUN)
