"""Computes a model's dimensions without its weights, from its configuration and parameters on the meta device.

The configurations of the models in our experiments are stored here, so planning needs neither hub nor cache for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from crosspatch.models.adapter import expert_weights, linear_layers
from crosspatch.models.blocks import text_config
from crosspatch.models.loading import SMOLLM2, Checkpoint, auto_class


def _known(model_type: str, tied: bool, *sizes: int) -> dict[str, Any]:
    keys = (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
        *("head_dim", "vocab_size", "max_position_embeddings"),
    )
    return {"model_type": model_type, "tie_word_embeddings": tied, **dict(zip(keys, sizes, strict=True))}


_SMOLLM2_135M = _known("llama", True, 576, 1536, 30, 9, 3, 64, 49152, 8192)
KNOWN = {
    "Qwen/Qwen3-4B": _known("qwen3", True, 2560, 9728, 36, 32, 8, 128, 151936, 40960),
    "meta-llama/Llama-3.3-70B-Instruct": _known("llama", False, 8192, 28672, 80, 64, 8, 128, 128256, 131072),
    SMOLLM2: _SMOLLM2_135M,
    "taught:smollm2-135m-instruct": _SMOLLM2_135M,
}


@dataclass(frozen=True)
class Shape:
    """A model's configuration and counts of its parameters.

    `multiplied` counts the weights that each token is multiplied with: all weights except an untied embedding.
    `linear_sides` is the sum of inputs and outputs of all linear layers except the unembedding: an adapter of rank r
    has r times as many parameters. `kept` is whether the configuration is from `KNOWN`.
    """

    config: Any
    parameters: int
    multiplied: int
    linear_sides: int
    kept: bool

    @classmethod
    def of(cls, name: str) -> Shape:
        """Return a checkpoint's shape, given its name; reads no weights. Raises UsageError for an unknown model."""
        kept = name in KNOWN
        config = AutoConfig.for_model(**KNOWN[name]) if kept else Checkpoint.named(name).config()
        with torch.device("meta"):
            model = auto_class(config).from_config(config)
        tied = getattr(text_config(model), "tie_word_embeddings", False)
        parameters = sum(weight.numel() for weight in model.parameters())
        return cls(
            config=text_config(model),
            parameters=parameters,
            multiplied=parameters - (0 if tied else model.get_input_embeddings().weight.numel()),
            linear_sides=sum(sum(module.weight.shape) for module in linear_layers(model).values())
            + sum(weight.shape[0] * sum(weight.shape[1:]) for weight in expert_weights(model).values()),
            kept=kept,
        )
