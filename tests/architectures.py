"""A tiny random model of each architecture that crosspatch is tried on: 4 blocks, width 48, 4 heads."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers

from crosspatch.models.tiny import _SHAPE, tiny_config

N_LAYERS = 4
SLIDING_AND_FULL = ["sliding_attention", "full_attention"] * (N_LAYERS // 2)

_COMMON = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "tie_word_embeddings")

# Attention and MLP side by side: nothing reads the stream between them, so there is no resid_mid.
PARALLEL = frozenset({"gpt_neox", "phi", "cohere2"})


def tiny_family(family: str, **changes: Any) -> Any:
    """The family's configuration at the common tiny shape; keys that it does not have are ignored."""
    common = tiny_config("llama")
    shared = {key: getattr(common, key) for key in (*_SHAPE, *_COMMON)}
    return getattr(transformers, f"{family}Config")(**shared | changes)


_SLIDING = {"sliding_window": 8, "layer_types": SLIDING_AND_FULL}
# A quarter of 12 is an odd number of rotary dimensions: half of them turn instead.
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_HALF_ROTARY = {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}}
_SOFT_CAPS = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [1]}
_MULTIPLIERS = {"residual_multiplier": 0.5, "attention_multiplier": 0.4, "embedding_multiplier": 3.0}

ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "qwen2": partial(tiny_family, "Qwen2"),
    "qwen3": partial(tiny_family, "Qwen3"),
    "qwen3_sliding": partial(tiny_family, "Qwen3", use_sliding_window=True, **_SLIDING),
    "qwen3_moe": partial(tiny_family, "Qwen3Moe", **_EXPERTS),
    "llama": partial(tiny_family, "Llama"),
    "mistral": partial(tiny_family, "Mistral", sliding_window=8),
    "gemma2": partial(tiny_family, "Gemma2", query_pre_attn_scalar=12, **_SLIDING, **_SOFT_CAPS),
    "gemma3": partial(tiny_family, "Gemma3Text", query_pre_attn_scalar=12, **_SLIDING),
    "gpt_oss": partial(
        tiny_family, "GptOss", num_local_experts=4, num_experts_per_tok=2, rope_parameters=_ROPE, **_SLIDING
    ),
    "gpt2": partial(tiny_config, "gpt2"),
    "gpt_neox": partial(tiny_family, "GPTNeoX", use_parallel_residual=True, **_HALF_ROTARY),
    "olmo2": partial(tiny_family, "Olmo2"),
    "phi": partial(tiny_family, "Phi", **_HALF_ROTARY),
    "phi3": partial(tiny_family, "Phi3"),
    "cohere2": partial(tiny_family, "Cohere2", logit_scale=0.8, **_SLIDING),
    "granite": partial(tiny_family, "Granite", **_MULTIPLIERS, logits_scaling=0.8),
    "smollm3": partial(tiny_family, "SmolLM3", no_rope_layers=[1, 0, 1, 0]),
    "stablelm": partial(tiny_family, "StableLm", **_HALF_ROTARY),
    "starcoder2": partial(tiny_family, "Starcoder2"),
    "glm4": partial(tiny_family, "Glm4"),
}


def tiny_architecture(name: str, seed: int = 0) -> Any:
    """A tiny random model in float32, ready to run; the global generator is left as it was.

    Norm weights, biases and attention sinks are moved off the ones and noughts that they start from, so that
    each of them does something.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(ARCHITECTURES[name](), dtype=torch.float32)
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter.dim() == 1 or parameter_name.endswith("bias"):
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()
