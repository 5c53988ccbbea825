"""The attention of packed passes equals attention one token at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspatch.patching.two_stream import attention
from crosspatch.patching.two_stream.attention import PassAttention
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Token

HEADS, KV_HEADS, WIDTH = 4, 2, 8
CPU = torch.device("cpu")


def causal(batch, head, query, key):
    return key <= query


def sliding(batch, head, query, key):
    return (key <= query) & (key > query - 3)


def packed(lanes: dict[int, tuple[int, int, int]]) -> list[Token]:
    """For each lane (tokens read before, tokens read now, tokens apart at each of these)."""
    staying = [Token(0, before + j, lane) for lane, (before, now, _) in sorted(lanes.items()) for j in range(now)]
    apart = [
        Token(0, before + j, lane, apart=True)
        for lane, (before, now, copies) in sorted(lanes.items())
        for j in range(now)
        for _ in range(copies)
    ]
    return staying + apart


def filled(lanes: dict[int, tuple[int, int, int]], seed: int) -> KeyValues:
    """Lanes in which the tokens before now have left random keys and values."""
    torch.manual_seed(seed)
    past = KeyValues(CPU, positions=40, lanes=len(lanes))
    assert [past.open() for _ in lanes] == list(lanes)
    past_tokens = [Token(0, p, lane) for lane, (before, _, _) in lanes.items() for p in range(before)]
    packing = Packing(past_tokens, CPU)
    shape = KV_HEADS, len(past_tokens), WIDTH
    past.write(0, torch.randn(shape), torch.randn(shape), packing.lanes, packing.positions, 40)
    return past


def one_by_one(tokens, past, query, key, value, rule, scaling):
    """What each token reads, by the definition: its lane's keys before it, and its own."""
    read = torch.zeros(len(tokens), HEADS, WIDTH)
    for t, token in enumerate(tokens):
        keys, values = past.read(0, token.lane, token.lane, token.position + 1)
        keys, values = keys[0].clone(), values[0].clone()
        keys[:, token.position], values[:, token.position] = key[:, t], value[:, t]
        for head in range(HEADS):
            kv = head // (HEADS // KV_HEADS)
            seen = [p for p in range(token.position + 1) if rule(0, head, token.position, p)]
            weights = (keys[kv, seen] @ query[head, t] * scaling).softmax(-1)
            read[t, head] = weights @ values[kv, seen]
    return read


def both(lanes, rule, seed):
    tokens = packed(lanes)
    past = filled(lanes, seed)
    query, key, value = (torch.randn(heads, len(tokens), WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS))
    fast = PassAttention(Packing(tokens, CPU), past).attend(0, query, key, value, rule, 0.3)
    return fast, one_by_one(tokens, past, query, key, value, rule, 0.3)


# At least one token before: whole models test a pass over an empty lane.
PER_LANE = st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(0, 5))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(PER_LANE, min_size=1, max_size=6),
    st.sampled_from([causal, sliding]),
    st.integers(0, 99),
    st.integers(0, 30),
)
def test_packed_is_one_by_one(lanes, rule, seed, lane_by_itself):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "LANE_BY_ITSELF", lane_by_itself)
        fast, slow = both(dict(enumerate(lanes)), rule, seed)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)


def test_a_wide_lane_is_read_by_itself(monkeypatch):
    """One lane of many queries among narrow ones: two groups give the same."""
    lanes = {0: (5, 4, 10), 1: (3, 1, 1), 2: (9, 1, 1), 3: (2, 1, 0)}
    packing = Packing(packed(lanes), CPU)
    groups = attention._groups(packing, len(packing.tokens))
    assert [(group.first, group.last, group.width) for group in groups] == [(0, 3, 2), (0, 0, 42)]
    fast, slow = both(lanes, causal, 1)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)
    # The control: in the order of their groups the tokens are other tokens.
    monkeypatch.setattr(attention, "_scattered", lambda of_groups, joined: torch.cat(of_groups))
    fast, slow = both(lanes, causal, 1)
    assert (fast - slow).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lanes_start_at_zero_and_grow(dtype):
    past = KeyValues(CPU, positions=4, lanes=1)
    lanes = [past.open() for _ in range(3)]
    new = torch.ones(KV_HEADS, 1, WIDTH, dtype=dtype)
    past.write(0, new, new, torch.tensor([lanes[2]]), torch.tensor([1]), 2)
    more = [past.open() for _ in range(30)]
    assert sorted(lanes + more) == list(range(33))
    past.write(0, new, new, torch.tensor([32]), torch.tensor([99]), 100)
    keys, _ = past.read(0, 0, 32, 100)
    assert keys.dtype == dtype
    assert keys.sum() == 2 * KV_HEADS * WIDTH
    assert keys[2, :, 1].eq(1).all()
    assert keys[32, :, 99].eq(1).all()
