"""Tiny random pairs for the tests."""

import copy
from functools import cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from architectures import OWN_CACHE, PARALLEL, tiny_architecture
from crosspatch.config import COMPONENTS, Component
from crosspatch.models.blocks import find_blocks
from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import ModelPair
from crosspatch.models.tiny import tiny_config, tiny_tokenizer
from tiny_architectures import child_of

ARCHITECTURES = ("qwen3", "llama", "gpt2")
QUESTION = "Solve for x: 5x + 3 = 18"
# Of different lengths, in tokens too: 15, 1 and 26 without a template.
QUESTIONS = (QUESTION, "a", "What is the capital of France? Say it slowly.")


def random_model(config, seed: int = 0):
    """A model in float32, ready to run; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def changed_model(architecture: str, seed: int = 0, **changes: Any):
    """A tiny random model with changes in its configuration, such as the number of blocks, all of the same kind."""
    config = tiny_config(architecture)
    config.update(changes)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1] * config.num_hidden_layers
    return random_model(config, seed)


def make_pair(architecture: str, n_layers: int = 4) -> ModelPair:
    clean = changed_model(architecture, num_hidden_layers=n_layers)
    return ModelPair(clean, child_of(clean, scale=0.5), PromptFormat(tiny_tokenizer()))


def raw_pair(clean, child) -> ModelPair:
    """A pair of tiny models without a chat template."""
    return ModelPair(clean, child, PromptFormat(tiny_tokenizer(), raw=True))


@cache
def architecture_pair(name: str, scale: float = 0.08) -> ModelPair:
    """A tiny pair of any architecture without a chat template; by default they often predict the same token."""
    clean = tiny_architecture(name)
    return raw_pair(clean, child_of(clean, scale=scale))


def in_bfloat16(pair: ModelPair) -> ModelPair:
    return ModelPair(*(copy.deepcopy(model).bfloat16() for model in (pair.clean, pair.corrupted)), pair.prompts)


def child_in(pair: ModelPair, *layers: int, part: str = "") -> ModelPair:
    """The clean model, and a child with the corrupted model's weights in some blocks, or in one part of them."""
    child = copy.deepcopy(pair.clean)
    for layer in layers:
        here, there = (find_blocks(model)[layer].get_submodule(part) for model in (child, pair.corrupted))
        here.load_state_dict(there.state_dict())
    return ModelPair(pair.clean, child, pair.prompts)


def components_of(name: str) -> tuple[Component, ...]:
    """The components that all of an architecture's blocks have."""
    if name in OWN_CACHE:
        return ("resid_post",)
    return tuple(c for c in COMPONENTS if not (c == "resid_mid" and name in PARALLEL))
