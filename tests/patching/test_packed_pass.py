"""Packed passes in which tokens join late: they compute what the text itself does from there on."""

from __future__ import annotations

import pytest
import torch

from crosspatch.models.hooks import editing, reading
from crosspatch.models.site import Site
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Token
from crosspatch.patching.two_stream.passes import packed_pass
from engines import TOLERANCE, hooks_and_forwards
from pairs import architecture_pair

CPU = torch.device("cpu")
IDS = list(range(20, 32))


@torch.no_grad()
@pytest.mark.parametrize("entry", [1, 3])
@pytest.mark.parametrize("name", ["qwen3", "gemma3", "gpt2", "gpt_neox"])
def test_tokens_that_join_late_need_none_from_the_start(name, entry):
    model = architecture_pair(name).clean
    past = KeyValues(CPU, len(IDS), lanes=1)
    lane = past.open()
    with reading(model, [Site(entry - 1)]) as read:
        whole = packed_pass(model, Packing([Token(id, p, lane) for p, id in enumerate(IDS)], CPU), past)
    stream = read[Site(entry - 1)][0]
    late = [Token(IDS[p], p, lane, entry, apart=True) for p in (3, 7)]
    early = [Token(IDS[5], 5, lane, apart=True)]

    def joined(tokens, places):
        seen = []

        def edit(activation):
            seen.append(activation.shape[1])
            return activation

        before = hooks_and_forwards(model)
        with editing(model, {Site(entry): edit}):
            hidden = packed_pass(model, Packing(tokens, CPU), past, {entry: (stream, torch.tensor(places))})
        assert hooks_and_forwards(model) == before
        # Edits see these tokens and nothing else.
        assert seen == [len(tokens)]
        return hidden

    assert torch.allclose(joined(late, [3, 7]), whole[[3, 7]], atol=TOLERANCE)
    assert torch.allclose(joined([*early, *late], [3, 7]), whole[[5, 3, 7]], atol=TOLERANCE)
    # The control: another position's stream is another token's.
    assert not torch.allclose(joined(late, [7, 3]), whole[[3, 7]], atol=100 * TOLERANCE)
