"""Finding blocks, and reading and editing what they put out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crosspatch.errors import UsageError
from crosspatch.models.blocks import editing, find_blocks, hidden_of, reading, text_config, with_hidden
from crosspatch.models.forward import fork, last_logits, new_cache

TOKENS = torch.tensor([[5, 9, 200, 31, 7]])


def hooks_on(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_bare_and_tupled_outputs():
    hidden, other = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    assert hidden_of(hidden) is hidden
    assert hidden_of((hidden, "weights")) is hidden
    assert with_hidden(hidden, other) is other
    assert with_hidden((hidden, "weights"), other) == (other, "weights")


def test_blocks_are_found(pair):
    blocks = find_blocks(pair.clean)
    assert len(blocks) == pair.n_layers == 4
    assert hasattr(blocks[0], "mlp")


def test_no_list_of_the_right_length(qwen3_pair):
    model = nn.Module()
    model.config = qwen3_pair.clean.config
    with pytest.raises(UsageError, match="0 lists of 4 blocks"):
        find_blocks(model)
    model.a = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))
    assert find_blocks(model) is model.a
    model.b = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))
    with pytest.raises(UsageError, match="2 lists"):
        find_blocks(model)


def test_a_list_inside_a_block_is_no_list_of_blocks(qwen3_pair):
    model = nn.Module()
    model.config = qwen3_pair.clean.config
    block = nn.Module()
    block.experts = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))
    model.layers = nn.ModuleList([block, nn.Module(), nn.Module(), nn.Module()])
    assert find_blocks(model) is model.layers


def test_reading_gives_what_transformers_calls_hidden_states(pair):
    with torch.inference_mode(), reading(pair.clean, [0, 1, 2]) as read:
        states = pair.clean(TOKENS, output_hidden_states=True).hidden_states
    for layer in (0, 1, 2):
        assert torch.equal(read[layer], states[layer + 1])


def test_editing_changes_the_logits_and_leaves_no_hook(pair):
    before = hooks_on(pair.clean)
    with torch.inference_mode():
        plain = last_logits(pair.clean, TOKENS)
        with editing(pair.clean, {1: lambda hidden: hidden}):
            assert torch.equal(last_logits(pair.clean, TOKENS), plain)
        with editing(pair.clean, {1: lambda hidden: hidden.flip(-1)}):
            assert not torch.allclose(last_logits(pair.clean, TOKENS), plain)
        assert torch.equal(last_logits(pair.clean, TOKENS), plain)
    assert hooks_on(pair.clean) == before


def test_hooks_are_gone_after_an_exception_and_foreign_ones_stay(qwen3_pair):
    model = qwen3_pair.clean
    before = hooks_on(model)
    foreign = find_blocks(model)[0].register_forward_hook(lambda *_: None)
    try:
        with (
            pytest.raises(ZeroDivisionError),
            reading(model, [0, 1]),
            editing(model, {2: lambda h: h / (1 // 0)}),
        ):
            last_logits(model, TOKENS)
        with pytest.raises(IndexError), reading(model, [0, 99]):
            pass
        assert hooks_on(model) == before + 1
    finally:
        foreign.remove()


@torch.inference_mode()
def test_cached_is_uncached_and_a_fork_leaves_its_origin_alone(pair):
    model = pair.clean
    cache = new_cache(text_config(model))
    last_logits(model, TOKENS[:, :3], cache)
    for _ in range(2):
        torch.testing.assert_close(
            last_logits(model, TOKENS[:, 3:4], fork(cache)),
            last_logits(model, TOKENS[:, :4]),
            atol=1e-5,
            rtol=0,
        )
    assert cache.get_seq_length() == 3
    last_logits(model, TOKENS[:, 3:4], cache)
    assert cache.get_seq_length() == 4
    torch.testing.assert_close(last_logits(model, TOKENS[:, 4:], cache), last_logits(model, TOKENS), atol=1e-5, rtol=0)


def test_a_past_that_is_more_than_keys_and_values_is_refused_by_its_configuration():
    import transformers

    new_cache(transformers.MistralConfig(sliding_window=8))
    for config in (transformers.FalconH1Config(), transformers.Qwen3NextConfig()):
        with pytest.raises(UsageError, match="engine=reference"):
            new_cache(config)
