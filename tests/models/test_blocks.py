"""Finding blocks, and the hidden states that go in and come out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from architectures import ARCHITECTURES, N_LAYERS, tiny_architecture
from crosspatch.errors import UsageError
from crosspatch.models.blocks import find_blocks, hidden_into, hidden_of, with_hidden


def test_bare_and_tupled_outputs():
    hidden, other = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    assert hidden_of(hidden) is hidden
    assert hidden_of((hidden, "weights")) is hidden
    assert with_hidden(hidden, other) is other
    assert with_hidden((hidden, "weights"), other) == (other, "weights")


def test_inputs_by_position_and_by_name():
    hidden, other = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    assert hidden_into((hidden, other), {}) is hidden
    assert hidden_into((), {"attention_mask": other, "hidden_states": hidden}) is hidden


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_blocks_are_found(name):
    model = tiny_architecture(name)
    blocks = find_blocks(model)
    assert len(blocks) == N_LAYERS
    assert hasattr(blocks[0], "mlp")


def lists_of_four(*names: str) -> nn.Module:
    model = nn.Module()
    model.config = ARCHITECTURES["qwen3"]()
    for name in names:
        setattr(model, name, nn.ModuleList(nn.Linear(1, 1) for _ in range(4)))
    return model


def test_no_list_of_the_right_length_or_two():
    with pytest.raises(UsageError, match="0 lists of 4 blocks"):
        find_blocks(lists_of_four())
    with pytest.raises(UsageError, match="2 lists"):
        find_blocks(lists_of_four("a", "b"))
    one = lists_of_four("a")
    assert find_blocks(one) is one.a


def test_a_list_inside_a_block_is_no_list_of_blocks():
    model = lists_of_four("layers")
    model.layers[0].experts = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))
    assert find_blocks(model) is model.layers


def test_each_model_has_its_own_blocks_also_when_they_are_replaced():
    model = lists_of_four("layers")
    child = copy.deepcopy(model)
    assert find_blocks(model) is model.layers
    assert find_blocks(child) is child.layers
    assert find_blocks(child) is not find_blocks(model)
    model.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))
    assert find_blocks(model) is model.layers
