"""Padded batches of prompts of different length give what single prompts give."""

from __future__ import annotations

import pytest
import torch

from crosspatch.analysis.patch import patch
from crosspatch.errors import UsageError
from crosspatch.models.chat import unpad
from engines import gap
from pairs import QUESTIONS, architecture_pair


def padded(rows, side):
    length = max(map(len, rows))
    filled = [([9] * (length - len(row)), row) for row in rows]
    ids = [fill + row if side == "left" else row + fill for fill, row in filled]
    masks = [[0] * len(f) + [1] * len(row) if side == "left" else [1] * len(row) + [0] * len(f) for f, row in filled]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(masks)}


@pytest.mark.parametrize(("side", "persistence"), [("left", "transient"), ("right", "persistent")])
@pytest.mark.parametrize("name", ["qwen3", "gpt2", "gemma3"])
def test_a_padded_batch_is_its_prompts(name, side, persistence):
    pair = architecture_pair(name)
    options = {"layers": [1, 3], "persistence": persistence, "max_new_tokens": 4, "quick_check": False}
    batch = padded([pair.encode(question) for question in QUESTIONS], side)
    together = patch(pair, batch, **options)
    for i, question in enumerate(QUESTIONS):
        prompt_id = f"prompt-{i:03d}"
        alone = patch(pair, {prompt_id: question}, **options)
        assert gap(together.scores.filter(prompt_id=prompt_id), alone.scores).close
        assert together.generations.filter(prompt_id=prompt_id).equals(alone.generations)


def test_a_batch_that_is_not_padding_is_refused():
    ids = torch.tensor([[1, 2, 3]])
    assert unpad(ids, torch.tensor([[0, 1, 1]])) == [[2, 3]]
    for mask, words in (([1, 0, 1], "a gap"), ([0, 0, 0], "no token")):
        with pytest.raises(UsageError, match=words):
            unpad(ids, torch.tensor([mask]))
