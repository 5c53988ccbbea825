"""Scores of one step, on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from crosspatch.errors import CrosspatchError
from crosspatch.patching.scores import score_states, transfer_score

# Two tokens' worth of thought: the clean model wants token 0, the corrupted one token 1.
CLEAN = torch.tensor([[3.0, 1.0, 0.0]])
CORRUPTED = torch.tensor([[0.0, 4.0, 0.0]])
PATCHED = torch.tensor([[2.0, 1.5, 1.7]])


def test_by_hand():
    scores = score_states(CLEAN, CORRUPTED, PATCHED)
    assert (scores.token.item(), scores.clean_token.item(), scores.corrupted_token.item()) == (0, 0, 1)
    # ΔL = logit of token 1 minus logit of token 0.
    assert scores.delta_clean.item() == -2.0
    assert scores.delta_corrupted.item() == 4.0
    assert scores.delta_patched.item() == -0.5
    # Tokens 0 and 2 stand above token 1 in the patched logits.
    assert scores.rank_corrupted.item() == 3
    # (-0.5 - -2) / (4 - -2)
    cts, status = transfer_score(-2.0, 4.0, -0.5, agree=False, small_denominator=1e-4)
    assert (cts, status) == (0.25, "ok")


def test_kl_by_hand():
    """KL(p || q) with p = (1/4, 3/4) and q = (1/2, 1/2)."""
    p, q = torch.tensor([[1 / 4, 3 / 4]]).log(), torch.tensor([[1 / 2, 1 / 2]]).log()
    scores = score_states(clean=q, corrupted=p, patched=p)
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert scores.kl_clean.item() == pytest.approx(expected, abs=1e-6)
    assert scores.kl_patched.item() == 0.0


def test_the_clean_model_scores_zero_and_the_corrupted_one():
    for state, expected in ((CLEAN, 0.0), (CORRUPTED, 1.0)):
        scores = score_states(CLEAN, CORRUPTED, state)
        deltas = (scores.delta_clean.item(), scores.delta_corrupted.item(), scores.delta_patched.item())
        assert transfer_score(*deltas, agree=False, small_denominator=0.0) == (expected, "ok")


def test_exchanging_the_models_turns_the_score_round():
    there = score_states(CLEAN, CORRUPTED, PATCHED)
    back = score_states(CORRUPTED, CLEAN, PATCHED)

    def cts(s):
        deltas = (s.delta_clean.item(), s.delta_corrupted.item(), s.delta_patched.item())
        return transfer_score(*deltas, agree=False, small_denominator=0.0)[0]

    assert cts(there) + cts(back) == pytest.approx(1.0)
    assert cts(there) != pytest.approx(cts(back))


def test_agreement_is_no_score():
    assert transfer_score(0.0, 0.0, 0.0, agree=True, small_denominator=1e-4) == (None, "agree")


def test_a_small_denominator_is_no_score():
    near = {"delta_clean": -0.01, "delta_corrupted": 0.01, "delta_patched": 5.0, "agree": False}
    assert transfer_score(**near, small_denominator=0.03) == (None, "small_denominator")
    assert transfer_score(**near, small_denominator=0.01)[1] == "ok"


def test_half_precision_logits_are_scored_in_float32():
    clean, corrupted, patched = (x.bfloat16() for x in (CLEAN, CORRUPTED, PATCHED))
    scores = score_states(clean, corrupted, patched)
    assert scores.delta_patched.dtype == torch.float32
    assert scores.delta_patched.item() == PATCHED.bfloat16()[0, 1].item() - PATCHED.bfloat16()[0, 0].item()


@pytest.mark.parametrize("state", ["clean", "corrupted", "patched"])
def test_a_logit_that_is_no_number_is_no_score(state):
    states = {"clean": CLEAN, "corrupted": CORRUPTED, "patched": PATCHED}
    score_states(**states)
    states[state] = states[state].clone()
    states[state][0, 2] = float("nan")
    with pytest.raises(CrosspatchError, match=f"the {state} model's logits are not all numbers"):
        score_states(**states)


def test_shapes_are_checked():
    with pytest.raises(Exception, match="patched"):
        score_states(CLEAN, CORRUPTED, PATCHED[0])
