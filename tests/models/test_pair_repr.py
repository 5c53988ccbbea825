"""What a notebook shows of a pair."""

from __future__ import annotations

import pytest

from crosspatch.models.pair import ModelPair
from crosspatch.models.weights import fingerprint
from html_reader import HOSTILE, Reader, tame


def test_both_models_are_told_apart() -> None:
    pair = ModelPair.load("random:llama", "random:llama")
    page = pair._repr_html_()
    read = Reader(page)
    assert tame(page)
    for said in ("random:llama", "4 layers (0 to 3), 4 heads a block, 2 of keys and values, width 48", "512 tokens"):
        assert said in read.text
    assert all(fingerprint(model) in read.text for model in (pair.clean, pair.corrupted))
    assert "float32" in read.text
    assert "the same weights" not in read.text


def test_a_model_paired_with_itself_is_noticed(qwen3_pair: ModelPair) -> None:
    itself = ModelPair.of(qwen3_pair.clean, qwen3_pair.clean, qwen3_pair.prompts.tokenizer, raw=True)
    text = Reader(itself._repr_html_()).text
    assert "the same weights: nothing can be recovered" in text
    assert "a model in memory" in text
    assert "as it stands" in text


def test_models_in_memory_make_the_same_pair(qwen3_pair: ModelPair) -> None:
    same = ModelPair.of(qwen3_pair.clean, qwen3_pair.corrupted, qwen3_pair.prompts.tokenizer)
    assert same.encode("hi") == qwen3_pair.encode("hi")
    assert same == qwen3_pair


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_name_acts(qwen3_pair: ModelPair, name: str) -> None:
    pair = ModelPair(qwen3_pair.clean, qwen3_pair.corrupted, qwen3_pair.prompts, (name, name))
    assert tame(pair._repr_html_())


def test_in_a_terminal_it_is_one_line(qwen3_pair: ModelPair) -> None:
    assert repr(qwen3_pair) == "ModelPair(origins=None)"
    assert "Linear" in repr(qwen3_pair.clean)
