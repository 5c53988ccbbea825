"""What is known of a model without its weights: its configuration, its parameters on the meta device.

Of the models that our experiments name the configuration is kept here, so that they can be planned where no hub is
reached and nothing is cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from crosspatch.models.adapter import expert_weights, linear_layers
from crosspatch.models.blocks import text_config
from crosspatch.models.loading import SMOLLM2, Checkpoint, auto_class

_QWEN3_4B = {
    "model_type": "qwen3",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
_SMOLLM2_135M = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
_LLAMA_3_70B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
KNOWN = {
    "Qwen/Qwen3-4B": _QWEN3_4B,
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA_3_70B,
    SMOLLM2: _SMOLLM2_135M,
    "taught:smollm2-135m-instruct": _SMOLLM2_135M,
}


@dataclass(frozen=True)
class Shape:
    """A model's configuration and what follows from it; counts are of numbers, not of bytes."""

    config: Any
    parameters: int
    embedding: int
    linear_sides: int
    kept: bool

    @classmethod
    def of(cls, name: str) -> Shape:
        """Read or looked up by a checkpoint's name; no weights are read. Raises UsageError for an unknown model.

        `embedding` are the numbers that are looked up and never multiplied; `linear_sides` is the sum of inputs and
        outputs of all linear layers but the unembedding, so that adapters of rank r have r times as many; `kept` says
        that the configuration is the one kept here.
        """
        kept = name in KNOWN
        config = AutoConfig.for_model(**KNOWN[name]) if kept else Checkpoint.named(name).config()
        with torch.device("meta"):
            model = auto_class(config).from_config(config)
        tied = getattr(text_config(model), "tie_word_embeddings", False)
        return cls(
            config=text_config(model),
            parameters=sum(weight.numel() for weight in model.parameters()),
            embedding=0 if tied else model.get_input_embeddings().weight.numel(),
            linear_sides=sum(sum(module.weight.shape) for module in linear_layers(model).values())
            + sum(weight.shape[0] * sum(weight.shape[1:]) for weight in expert_weights(model).values()),
            kept=kept,
        )

    @property
    def multiplied(self) -> int:
        """The weights that each token is multiplied with."""
        return self.parameters - self.embedding
