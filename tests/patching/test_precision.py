"""Half precision: it runs, its scores are numbers, and its thresholds follow it."""

from __future__ import annotations

import copy

import pytest
import torch

from crosspatch.analysis.patch import patch
from crosspatch.models.pair import ModelPair
from crosspatch.models.unembedding import last_logits
from crosspatch.patching.engine import Prompt, run_cached
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.quick_check import quick_check
from crosspatch.patching.reference import run_reference
from crosspatch.patching.trajectory import PatchRun
from engines import DELTAS, KLS, table
from pairs import QUESTION, QUESTIONS, architecture_pair, components_of

NAMES = ("qwen3", "gemma2", "gpt_oss", "gpt2", "cohere2")


def in_dtype(name: str, dtype: torch.dtype) -> ModelPair:
    pair = architecture_pair(name)
    return ModelPair(copy.deepcopy(pair.clean).to(dtype), copy.deepcopy(pair.corrupted).to(dtype), pair.prompts)


@pytest.mark.parametrize("persistence", ["transient", "persistent"])
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_runs_and_gives_numbers(name, persistence):
    pair = in_dtype(name, torch.bfloat16)
    patches = patch_grid([1, 3], 4, components_of(name), heads=[0], n_heads=4)
    prompts = [Prompt(pair.encode(question), patches, answers=True) for question in QUESTIONS]
    run = PatchRun(persistence=persistence, max_new_tokens=5, small_denominator=pair.small_denominator)
    for written in run_cached(pair, prompts, run):
        frame = table(pair, written.trajectories, run)
        for column in (*DELTAS, *KLS):
            assert frame[column].is_finite().all()
        assert frame["kl_patched"].max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_near_the_reference(name):
    """At the first step, before either can say another word: within a few roundings of logits of about 5."""
    pair = in_dtype(name, torch.bfloat16)
    patches = patch_grid("all", 4)
    ids = pair.encode(QUESTION)
    run = PatchRun(max_new_tokens=1)
    fast = run_cached(pair, [Prompt(ids, patches)], run)[0].trajectories
    slow = run_reference(pair, ids, patches, run)
    for one, other in zip(fast, slow, strict=True):
        assert one.steps[0].kl_patched == pytest.approx(other.steps[0].kl_patched, abs=0.1)
    assert quick_check(pair, patches) is None


@torch.inference_mode()
def test_a_float32_unembedding_does_not_round_logits():
    pair = in_dtype("qwen3", torch.bfloat16)
    tokens = torch.tensor([pair.encode(QUESTION)])
    rounded, exact = (last_logits(pair.clean, tokens, float32=float32) for float32 in (False, True))
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert not torch.equal(exact, exact.bfloat16().float())
    assert torch.allclose(rounded, exact, atol=0.1)
    # In float32 there is nothing to do.
    clean = architecture_pair("qwen3").clean
    assert torch.allclose(last_logits(clean, tokens), last_logits(clean, tokens, float32=True), atol=1e-5)


@pytest.mark.parametrize("run_once", [run_cached, None], ids=["cached", "reference"])
def test_both_engines_can_have_it(run_once):
    pair = in_dtype("qwen3", torch.bfloat16)
    ids, patches = pair.encode(QUESTION), patch_grid([1], 4)

    def deltas(float32):
        run = PatchRun(max_new_tokens=1, float32_unembedding=float32)
        if run_once is None:
            return run_reference(pair, ids, patches, run)[0].steps[0]
        return run_once(pair, [Prompt(ids, patches)], run)[0].trajectories[0].steps[0]

    def is_rounded(step):
        """Differences of logits that are multiples of 1/256, as those of bfloat16 above 1/2 are."""
        return all(delta * 256 == int(delta * 256) for delta in step.deltas)

    assert is_rounded(deltas(False))
    exact = deltas(True)
    assert not is_rounded(exact) or not exact.disagree
    assert exact.kl_patched != deltas(False).kl_patched


@pytest.mark.parametrize(("dtype", "threshold"), [(torch.float32, 1e-4), (torch.float16, 0.03), (torch.bfloat16, 0.25)])
def test_small_denominators_follow_the_precision(dtype, threshold):
    pair = in_dtype("qwen3", dtype)
    assert pair.small_denominator == threshold
    mixed = ModelPair(pair.clean, architecture_pair("qwen3").corrupted, pair.prompts)
    assert mixed.small_denominator == threshold


def test_the_python_api_takes_the_threshold_from_the_precision():
    pair = in_dtype("gpt2", torch.bfloat16)
    scores = patch(pair, list(QUESTIONS), layers=[1, 2], max_new_tokens=8).scores
    denominators = (scores["delta_corrupted"] - scores["delta_clean"]).abs()
    assert (denominators.filter(scores["status"] == "ok") >= 0.25).all()
    small = scores["status"] == "small_denominator"
    assert (denominators.filter(small) < 0.25).all()
    assert scores["cts"].filter(small).null_count() == small.sum()
    every = patch(pair, list(QUESTIONS), layers=[1, 2], max_new_tokens=8, small_denominator=0.0).scores
    assert "small_denominator" not in every["status"]
