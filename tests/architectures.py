"""A tiny random model of each architecture that crosspatch is tried on: 4 blocks, width 48, 4 heads."""

from collections.abc import Callable
from functools import partial
from typing import Any

import transformers

from crosspatch.models.tiny import _SHAPE, tiny_config
from tiny_architectures import random_model
from tiny_architectures import tiny_config as tiny_any

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

# Models that only the any-cache engine can cache: linear attention, state-space layers beside attention, convolutions,
# and attention that asks no interface.
OWN_CACHE = ("qwen3_next", "falcon_h1", "lfm2", "bloom")

# One of each unusual kind, of those that `benchmarks/architectures.py` builds: attn_out, mlp_out and heads of the first
# block that has attention, and of the first that has a convolution, a recurrence or linear attention in its place.
_SELF, _LINEAR = ("self_attn", "mlp", "self_attn.o_proj"), ("linear_attn", "mlp", None)
_MAMBA, _FEED = ("mamba", "feed_forward", None), ("self_attn", "feed_forward", "self_attn.o_proj")
UNUSUAL: dict[str, list[tuple[str | None, str | None, str | None]]] = {
    "bert": [(None, None, None)],
    "bloom": [("self_attention.dense", "mlp.dense_4h_to_h", "self_attention.dense")],
    "dbrx": [("norm_attn_norm.attn", "ffn", "norm_attn_norm.attn.out_proj")],
    "deepseek_v3": [_SELF],
    "falcon": [("self_attention", "mlp", "self_attention.dense")],
    "falcon_h1": [(None, None, "self_attn.o_proj")],
    "granitemoehybrid": [("self_attn", None, "self_attn.o_proj"), ("mamba", None, None)],
    "jamba": [_FEED, _MAMBA],
    "lfm2": [("self_attn", "feed_forward", "self_attn.out_proj"), ("conv", "feed_forward", None)],
    "llama4": [_FEED],
    "mamba2": [(None, None, None)],
    "minimax": [(None, None, "self_attn.o_proj"), (None, None, "self_attn.out_proj")],
    "mpt": [("resid_attn_dropout", "ffn.down_proj", "attn.out_proj")],
    "nemotron_h": [("mixer", None, "mixer.o_proj"), (None, None, None)],
    "olmo_hybrid": [("post_attention_layernorm", "post_feedforward_layernorm", "self_attn.o_proj"), _LINEAR],
    "openai-gpt": [("attn", None, "attn.c_proj")],
    "opt": [("self_attn", "fc2", "self_attn.out_proj")],
    "qwen3_5": [_SELF, _LINEAR],
    "qwen3_5_moe": [_SELF, _LINEAR],
    "qwen3_next": [_SELF, _LINEAR],
    "recurrent_gemma": [
        ("temporal_block", "mlp_block", "temporal_block.o_proj"),
        ("temporal_block", "mlp_block", None),
    ],
    "zamba": [(None, None, "shared_transf.self_attn.o_proj"), (None, None, None)],
}


def tiny_architecture(name: str, seed: int = 0) -> Any:
    """A tiny random model in float32, ready to run; the global generator is left as it was."""
    return random_model(ARCHITECTURES[name]() if name in ARCHITECTURES else tiny_any(name), seed)
