"""Which rows are whose head, over all architectures: held against what heads do when the rows are moved."""

from __future__ import annotations

import copy

import pytest
import torch

from architectures import ARCHITECTURES, N_LAYERS, tiny_architecture
from crosspatch.models.head_slices import HeadSlice, _owners, head_slices
from crosspatch.models.hooks import reading
from crosspatch.models.site import Site
from engines import hooks_and_forwards

TOKENS = torch.tensor([[5, 17, 301, 44, 9, 120]])
LAYER, HEADS = 1, 4
# The architectures whose heads have keys and values of their own.
OWN_KEYS = {"gpt2", "gpt_neox"}
FUSED = {"gpt2": "attn.c_attn", "gpt_neox": "attention.query_key_value", "phi3": "self_attn.qkv_proj"}


def head_outputs(model) -> list[torch.Tensor]:
    sites = [Site(LAYER, "head", head) for head in range(HEADS)]
    with torch.no_grad(), reading(model, sites) as read:
        model(TOKENS, use_cache=False)
    return [read[site] for site in sites]


def moved_heads(model, name: str, one: HeadSlice) -> set[int]:
    """The heads whose outputs change when a slice of a weight of the block does."""
    before = head_outputs(model)
    other = copy.deepcopy(model)
    weight = other.get_parameter(next(n for n, _ in model.named_parameters() if f".{LAYER}.{name}" in n))
    with torch.no_grad():
        weight.index_add_(min(one.axis, weight.dim() - 1), one.index, 0.5 * torch.randn_like(one.of(weight)))
    return {head for head, (a, b) in enumerate(zip(before, head_outputs(other), strict=True)) if not torch.equal(a, b)}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_moving_a_slice_moves_its_heads_and_no_other(name):
    model = tiny_architecture(name)
    found = head_slices(model)
    assert len(found) == N_LAYERS
    out = [weight for weight, slices in found[LAYER].items() if slices[0].axis == (0 if name == "gpt2" else 1)]
    inward = {weight: slices for weight, slices in found[LAYER].items() if weight not in out}
    assert len(inward) >= (1 if name in FUSED else 3)
    for weight, slices in inward.items():
        # A norm over all heads lets each of them feel what happens to another; the slice itself is right.
        if name == "olmo2" and ("q_proj" in weight or "k_proj" in weight):
            continue
        for one in slices:
            assert moved_heads(model, weight, one) == set(one.heads), (weight, one.heads)
    assert hooks_and_forwards(model) == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_slices_divide_every_weight_among_all_heads(name):
    model = tiny_architecture(name)
    for weight, slices in head_slices(model)[LAYER].items():
        parameter = model.get_parameter(next(n for n, _ in model.named_parameters() if f".{LAYER}.{weight}" in n))
        whole = parameter.shape[min(slices[0].axis, parameter.dim() - 1)]
        assert sorted(torch.cat([one.index for one in slices]).tolist()) == list(range(whole))
        assert {head for one in slices for head in one.heads} == set(range(HEADS))
        if ".k_proj" in weight or ".v_proj" in weight:
            expected = [(0,), (1,), (2,), (3,)] if name in OWN_KEYS else [(0, 1), (2, 3)]
            assert [one.heads for one in slices] == expected


def test_fused_projections_are_told_apart_whatever_their_order():
    rows = {name: head_slices(tiny_architecture(name))[LAYER][f"{FUSED[name]}.weight"] for name in FUSED}
    # Query, key and value one after the other; head by head; and grouped.
    assert rows["gpt2"][1].index.tolist() == [*range(12, 24), *range(60, 72), *range(108, 120)]
    assert rows["gpt_neox"][1].index.tolist() == list(range(36, 72))
    assert [(one.heads, len(one.index)) for one in rows["phi3"]] == [
        ((0,), 12),
        ((0, 1), 24),
        ((1,), 12),
        ((2,), 12),
        ((2, 3), 24),
        ((3,), 12),
    ]


def test_half_precision_tells_the_same():
    model = tiny_architecture("qwen3")
    exact = head_slices(model)
    rough = head_slices(model.bfloat16())
    for block, same in zip(exact, rough, strict=True):
        assert block.keys() == same.keys()
        assert all(
            a.heads == b.heads and torch.equal(a.index, b.index)
            for name in block
            for a, b in zip(block[name], same[name], strict=True)
        )


def test_rows_that_do_not_fall_to_heads_evenly_are_nobodys():
    own = torch.eye(4, dtype=torch.bool).repeat_interleave(3, dim=1)
    assert _owners(own) == {(0,): [0, 1, 2], (1,): [3, 4, 5], (2,): [6, 7, 8], (3,): [9, 10, 11]}
    without_a_row, uneven, mixed = own.clone(), own.clone(), own.clone()
    without_a_row[0, 0] = False
    uneven[:, 0] = torch.tensor([False, True, False, False])
    mixed[1, 0] = True
    assert _owners(without_a_row) is _owners(uneven) is _owners(mixed) is None
