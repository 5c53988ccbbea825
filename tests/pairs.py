"""Tiny random pairs for the tests."""

from __future__ import annotations

import copy

import torch

from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import ModelPair
from crosspatch.models.tiny import tiny_model, tiny_tokenizer

ARCHITECTURES = ("qwen3", "llama", "gpt2")
QUESTION = "Solve for x: 5x + 3 = 18"


def child_of(model, seed: int = 1, scale: float = 0.1):
    """A child whose every weight has moved a little, as a fine-tune moves them."""
    child = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in child.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(scale * weight.abs().mean() * noise)
    return child


def make_pair(architecture: str, *, raw: bool = False) -> ModelPair:
    clean = tiny_model(architecture)
    return ModelPair(clean, child_of(clean, scale=0.5), PromptFormat(tiny_tokenizer(), raw=raw))
