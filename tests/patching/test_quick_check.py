"""The quick check of a pair notices what is wrong. `test_architectures` shows that every architecture passes."""

import copy

import torch

from crosspatch.models.pair import ModelPair
from crosspatch.patching import quick_check as module
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.quick_check import quick_check, usable_engine
from crosspatch.patching.two_stream import attention
from pairs import architecture_pair, components_of

GRID = patch_grid([0, 3], 4, components_of("qwen3"), heads=[1], n_heads=4)


def test_attention_that_reads_too_much_is_noticed(monkeypatch):
    original = attention.PassAttention._mask
    monkeypatch.setattr(attention.PassAttention, "_mask", lambda *args: torch.zeros_like(original(*args)))
    assert "gives logits that differ" in quick_check(architecture_pair("qwen3"), GRID)


def test_a_block_that_runs_twice_is_noticed():
    pair = architecture_pair("llama")
    twice = copy.deepcopy(pair.clean)
    plain = twice.model.forward

    def again(*args, **kwargs):
        plain(*args, **kwargs)
        return plain(*args, **kwargs)

    twice.model.forward = again
    found = quick_check(ModelPair(twice, pair.corrupted, pair.prompts), patch_grid("all", 4))
    assert "runs 2 times in a pass, expected once, in the clean model" in found


def test_a_pair_that_fails_gets_the_reference_and_is_told(monkeypatch, caplog):
    pair = architecture_pair("llama")
    assert usable_engine(pair, GRID, "cached", 100) == "cached"
    assert not caplog.records
    # Positions that shift with the length.
    shifting = copy.deepcopy(pair.clean)
    shifting.config.rope_parameters = {"rope_type": "dynamic", "original_max_position_embeddings": 100}
    shifting = ModelPair(shifting, pair.corrupted, pair.prompts)
    assert usable_engine(shifting, GRID, "cached", 100) == "cached"
    assert usable_engine(shifting, GRID, "cached", 101) == "reference"
    assert "beyond 100 tokens" in caplog.text
    caplog.clear()
    monkeypatch.setattr(module, "_TOLERANCE", dict.fromkeys(module._TOLERANCE, 0.0))
    assert usable_engine(pair, GRID, "cached", 64) == "reference"
    assert "the cached engine cannot be used on this pair" in caplog.text
    assert "the any_cache engine cannot be used on this pair" in caplog.text
    assert usable_engine(pair, GRID, "reference", 64) == "reference"
    assert len(caplog.records) == 2
