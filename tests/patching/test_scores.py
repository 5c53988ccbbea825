"""Scores of one step, on numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl
import pytest
import torch

from crosspatch.errors import CrosspatchError
from crosspatch.patching.measures import Recovered, recovered_fraction
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Contexts, Step, transfer_score
from crosspatch.patching.trajectory import Trajectory, recovered

# Two tokens' worth of thought: the clean model wants token 0, the corrupted one token 1.
CLEAN = torch.tensor([[3.0, 1.0, 0.0]])
CORRUPTED = torch.tensor([[0.0, 4.0, 0.0]])
PATCHED = torch.tensor([[2.0, 1.5, 1.7]])


def scored(target, source, patched, direction="corrupt") -> Step:
    [step] = Contexts.of(target, source, direction).score(patched, [1], [True])
    return step


def test_by_hand():
    step = scored(CLEAN, CORRUPTED, PATCHED)
    assert (step.token, step.y_target, step.y_source) == (0, 0, 1)
    # ΔL = logit of token 1 minus logit of token 0.
    assert step.deltas == (-2.0, 4.0, -0.5)
    assert (step.moved, step.gap) == (1.5, 6.0)
    # Tokens 0 and 2 stand above token 1 in the patched logits.
    assert step.rank_corrupted == 3
    # (-0.5 - -2) / (4 - -2)
    cts, status = transfer_score(-2.0, 4.0, -0.5, agree=False, small_denominator=1e-4)
    assert (cts, status) == (0.25, "ok")


def test_kl_by_hand():
    """KL(p || q) with p = (1/4, 3/4) and q = (1/2, 1/2)."""
    p, q = torch.tensor([[1 / 4, 3 / 4]]).log(), torch.tensor([[1 / 2, 1 / 2]]).log()
    step = scored(q, p, p)
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert step.kl_clean == pytest.approx(expected, abs=1e-6)
    assert step.kl_patched == 0.0


def test_repairing_exchanges_target_and_source_and_nothing_else():
    there, back = scored(CLEAN, CORRUPTED, PATCHED), scored(CORRUPTED, CLEAN, PATCHED, "repair")
    exchanged = replace(
        there,
        y_target=there.y_source,
        y_source=there.y_target,
        delta_target=there.delta_source,
        delta_source=there.delta_target,
    )
    # ΔL, KL and rank stay those of the clean and the corrupted model, to the bit.
    assert back == exchanged
    # The control: the same models the other way round, unexchanged.
    assert scored(CORRUPTED, CLEAN, PATCHED).rank_corrupted == 1


def test_the_clean_model_scores_zero_and_the_corrupted_one():
    for state, expected in ((CLEAN, 0.0), (CORRUPTED, 1.0)):
        step = scored(CLEAN, CORRUPTED, state)
        assert transfer_score(*step.deltas, agree=False, small_denominator=0.0) == (expected, "ok")


def test_exchanging_the_models_turns_the_score_round():
    there = scored(CLEAN, CORRUPTED, PATCHED)
    back = scored(CORRUPTED, CLEAN, PATCHED)

    def cts(step):
        return transfer_score(*step.deltas, agree=False, small_denominator=0.0)[0]

    assert cts(there) + cts(back) == pytest.approx(1.0)
    assert cts(there) != pytest.approx(cts(back))


def test_agreement_is_no_score():
    assert transfer_score(0.0, 0.0, 0.0, agree=True, small_denominator=1e-4) == (None, "agree")


def test_a_small_denominator_is_no_score():
    near = {"delta_clean": -0.01, "delta_corrupted": 0.01, "delta_patched": 5.0, "agree": False}
    assert transfer_score(**near, small_denominator=0.03) == (None, "small_denominator")
    assert transfer_score(**near, small_denominator=0.01)[1] == "ok"


def test_half_precision_logits_are_scored_in_float32():
    clean, corrupted, patched = (x.bfloat16() for x in (CLEAN, CORRUPTED, torch.tensor([[256.0, 0.5, 0.0]])))
    # In bfloat16 itself it would be -256.
    assert (patched[0, 1] - patched[0, 0]).item() == -256
    assert scored(clean, corrupted, patched).delta_patched == -255.5


@pytest.mark.parametrize("state", ["clean", "corrupted", "patched"])
def test_a_logit_that_is_no_number_is_no_score(state):
    states = {"clean": CLEAN, "corrupted": CORRUPTED, "patched": PATCHED}
    scored(*states.values())
    states[state] = states[state].clone()
    states[state][0, 2] = float("nan")
    with pytest.raises(CrosspatchError, match=f"the {state} model's logits are not all numbers"):
        scored(*states.values())


def test_shapes_are_checked():
    with pytest.raises(Exception, match="patched"):
        scored(CLEAN, CORRUPTED, PATCHED[0])


def test_the_recovered_fraction_by_hand():
    def trajectory(*states, y_source=1):
        steps = [Step(0, 0, y_source, *deltas, 0.0, 0.0, 1, True) for deltas in states]
        return Trajectory(Patch.parse("L0.resid_post"), 1, steps)

    # 1 of 4 and 3 of 4 logits; where the models agree nothing counts.
    apart, agreeing = trajectory((-2.0, 2.0, -1.0), (0.0, 4.0, 3.0)), trajectory((0.0, 0.0, 99.0), y_source=0)
    assert recovered([apart, agreeing]) == Recovered(4.0, 8.0)
    assert (recovered([apart]) + recovered([apart])).fraction == 0.5
    assert recovered([agreeing]).fraction is None
    sums = pl.DataFrame({"moved": [4.0, 0.0], "gap": [8.0, 0.0]})
    assert sums.select(recovered_fraction(pl.col("moved"), pl.col("gap"))).to_series().to_list() == [0.5, None]
