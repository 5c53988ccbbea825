"""Packed passes: their attention equals attention one token at a time, and tokens can join them late."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspatch.models.hooks import editing, reading
from crosspatch.models.site import Site
from crosspatch.patching.two_stream import attention, packing
from crosspatch.patching.two_stream.attention import PassAttention
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Token
from crosspatch.patching.two_stream.passes import packed_pass, starting
from engines import TOLERANCE, hooks_and_forwards
from pairs import architecture_pair

HEADS, KV_HEADS, WIDTH = 4, 2, 8
CPU = torch.device("cpu")


def causal(batch, head, query, key):
    return key <= query


def sliding(batch, head, query, key):
    return (key <= query) & (key > query - 3)


def one_by_one(tokens, past, query, key, value, rule, scaling):
    """What each token reads, by the definition: its lane's keys before it, and its own."""
    read = torch.zeros(len(tokens), HEADS, WIDTH)
    for t, token in enumerate(tokens):
        keys, values = past.read(0, slice(token.lane, token.lane + 1), token.position + 1)
        keys, values = keys[0].clone(), values[0].clone()
        keys[:, token.position], values[:, token.position] = key[:, t], value[:, t]
        for head in range(HEADS):
            kv = head // (HEADS // KV_HEADS)
            seen = [p for p in range(token.position + 1) if rule(0, head, token.position, p)]
            weights = (keys[kv, seen] @ query[head, t] * scaling).softmax(-1)
            read[t, head] = weights @ values[kv, seen]
    return read


def both(lanes: dict[int, tuple[int, int, int]], rule, seed):
    """For each lane (tokens read before, tokens read now, tokens apart at each of these)."""
    now = [Token(0, before + j, lane) for lane, (before, new, _) in lanes.items() for j in range(new)]
    tokens = now + [replace(token, apart=True) for token in now for _ in range(lanes[token.lane][2])]
    # The tokens before have left random keys and values.
    torch.manual_seed(seed)
    past = KeyValues(CPU, positions=40, lanes=len(lanes))
    assert [past.open() for _ in lanes] == list(lanes)
    read = Packing.of([Token(0, p, lane) for lane, (before, *_) in lanes.items() for p in range(before)], CPU)
    shape = KV_HEADS, len(read), WIDTH
    where = read.tensor(read.lanes), read.tensor(read.positions)
    past.write(0, torch.randn(shape), torch.randn(shape), *where, 40)
    query, key, value = (torch.randn(heads, len(tokens), WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS))
    fast = PassAttention(Packing.of(tokens, CPU), past).attend(0, query, key, value, rule, 0.3)
    return fast, one_by_one(tokens, past, query, key, value, rule, 0.3)


# At least one token before: whole models test a pass over an empty lane.
PER_LANE = st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(0, 5))


@settings(max_examples=60)
@given(
    st.lists(PER_LANE, min_size=1, max_size=6),
    st.sampled_from([causal, sliding]),
    st.integers(0, 99),
    st.integers(0, 30),
)
def test_packed_is_one_by_one(lanes, rule, seed, slot_by_itself):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SLOT_BY_ITSELF", slot_by_itself)
        fast, slow = both(dict(enumerate(lanes)), rule, seed)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)


def test_a_wide_slot_has_several_grid_rows(monkeypatch):
    """One slot of many queries among narrow ones: the control of the grid in `test_packed_is_one_by_one`."""
    lanes = {0: (5, 4, 20)} | {lane: (3, 1, lane % 2) for lane in range(1, 9)}
    fast, slow = both(lanes, causal, 1)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)
    queries = np.repeat(list(lanes), [new * (1 + apart) for _, new, apart in lanes.values()])
    layout = packing.Layout.of(queries)
    assert np.bincount(layout.lanes).max() > 1 < len(set(layout.lanes))
    monkeypatch.setattr(packing, "SLOT_BY_ITSELF", 1000)
    assert sorted(packing.Layout.of(queries).lanes) == list(lanes)
    # In the order of the grid the tokens are other tokens.
    monkeypatch.setattr(attention, "_gathered", lambda grid, _: grid.transpose(1, 2).flatten(0, 1)[: len(slow)])
    assert (both(lanes, causal, 1)[0] - slow).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("name", ["qwen3", "gemma3", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("entry", [1, 3])
def test_tokens_that_join_late_need_none_from_the_start(name, entry):
    model, ids = architecture_pair(name).clean, list(range(20, 32))
    past = KeyValues(CPU, len(ids), lanes=1)
    lane = past.open()
    with reading(model, [Site(entry - 1)]) as read:
        whole = packed_pass(model, Packing.of([Token(id, p, lane) for p, id in enumerate(ids)], CPU), past)
    late = [Token(ids[p], p, lane, entry, apart=True) for p in (3, 7)]
    early = [Token(ids[5], 5, lane, apart=True)]

    def joined(tokens, places):
        seen = []
        joining = {entry: starting(read[Site(entry - 1)][0][places])}
        with editing(model, {Site(entry): lambda stream: seen.append(stream.shape[1]) or stream}):
            hidden = packed_pass(model, Packing.of(tokens, CPU), past, joining)
        # Edits see these tokens and nothing else.
        assert seen == [len(tokens)]
        return hidden

    assert torch.allclose(joined(late, [3, 7]), whole[[3, 7]], atol=TOLERANCE)
    assert torch.allclose(joined([*early, *late], [3, 7]), whole[[5, 3, 7]], atol=TOLERANCE)
    # The control: another position's stream is another token's.
    assert not torch.allclose(joined(late, [7, 3]), whole[[3, 7]], atol=100 * TOLERANCE)
    assert hooks_and_forwards(model) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lanes_start_at_zero_and_grow(dtype):
    past = KeyValues(CPU, positions=4, lanes=1)
    lanes = [past.open() for _ in range(3)]
    new = torch.ones(KV_HEADS, 1, WIDTH, dtype=dtype)
    past.write(0, new, new, torch.tensor([lanes[2]]), torch.tensor([1]), 2)
    more = [past.open() for _ in range(30)]
    assert sorted(lanes + more) == list(range(33))
    past.write(0, new, new, torch.tensor([32]), torch.tensor([99]), 100)
    keys, _ = past.read(0, slice(0, 33), 100)
    assert keys.dtype == dtype
    assert keys.sum() == 2 * KV_HEADS * WIDTH
    assert keys[2, :, 1].eq(1).all()
    assert keys[32, :, 99].eq(1).all()
