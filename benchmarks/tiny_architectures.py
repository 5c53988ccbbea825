"""Tiny random models of any causal-LM architecture of transformers, made by shrinking its default configuration."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
import transformers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from crosspatch.models.tiny import VOCABULARY, tiny_tokenizer

DEPTH = 4
# Patterns of the names of sizes, in the spellings of all configurations, and their tiny values; the first that matches
# the whole name counts. Windows, chunks and the number of keys that sparse attention selects are shorter than texts.
_DEPTH = r"num_hidden_layers|n_layers?|num_layers|num_blocks|(encoder|decoder)_layers|num_(en|de)coder_layers"
_SIZES = {
    _DEPTH: DEPTH,
    r"(unpadded_)?vocab_size(_per_layer_input)?": VOCABULARY,
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len|context_length|max_target_positions": 256,
    r"hidden_size|d_model|n_embd|emb_dim|embedding_dim|word_embed_proj_dim|lru_width|embedding_size": 48,
    r"(in|out)put_embedding_size|rwkv_attention_hidden_size": 48,
    r".*intermediate_size(_mlp)?|(|encoder_|decoder_)ffn_dim|d_inner|dff|dim_ff|feed_forward_size": 96,
    r"n_inner|(expert_)?ffn_hidden_size|mamba_d_ssm|attention_hidden_size": 96,
    r"num_local_experts|n_routed_experts|(moe_)?num_experts": 4,
    r"num_experts_per_tok(en)?|moe_topk|moe_k|n_group|num_expert_group|zero_expert_num|n_groups|mamba_n_?groups": 2,
    r"topk_group|indexer_kv_heads": 1,
    r".*num_key_value_heads|num_kv_heads|linear_num_key_heads|n_mamba_heads": 2,
    r"mamba_n_heads|mamba_num_heads": 8,
    r".*num_attention_heads|n_heads?|num_heads|.*attention_heads|linear_num_(value_)?heads|index_n_heads": 4,
    r"(|swa_|index_|linear_(key_|value_)?)head_dim|kv_channels|d_head|dim_head|attention_head_size": 12,
    r"query_pre_attn_scalar|v_head_dim|qk_nope_head_dim|mamba_(d_head|head_?dim)": 12,
    r"qk_head_dim": 18,
    r"qk_rope_head_dim|rotary_dim": 6,
    r"attention_head_dim": 24,
    r"(q|kv|o)_lora_rank|router_hidden_size|laurel_rank|hidden_size_per_layer_input": 16,
    r"sliding_window(_size)?|window_size|attention_window_size|attention_chunk_size|local_attention|index_topk": 8,
    r"chunk_size|mamba_chunk_size|block_size": 8,
    r".*state_size|mamba_d_state": 8,
}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"] * 2}
# What some architectures need beside that: sizes that depend on one another, and layers of each of their kinds.
_SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {"rope_parameters": dict.fromkeys(("sliding_attention", "full_attention"), _ROPE)},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"hidden_size": 48, "ffn_hidden_size": 96},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dory": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "n_input_layers": 1,
        "n_recurrent_layers": 2,
        "n_output_layers": 1,
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gemma3n_text": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "granitemoehybrid": _HYBRID,
    "hrm_text": {"num_layers_per_stack": None},
    "jamba": {"attn_layer_period": 4, "attn_layer_offset": 2, "mamba_dt_rank": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"head_dim": 24},
    "qwen4_exp_text": {
        **{"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 12, "indexer_budget": 8},
        **{"indexer_compress_ratio": 2},
    },
    "reformer": {"axial_pos_embds": False},
    "rwkv": {"attention_hidden_size": 48},
    "xlstm": {"hidden_size": 64, "embedding_dim": 64, "qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"mamba_dt_rank": 8, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zamba2": {"n_mamba_heads": 8, "hybrid_layer_ids": [1, 3], "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}


def tiny_architecture(model_type: str) -> Any:
    """Return a tiny random model of a type of `MODEL_FOR_CAUSAL_LM_MAPPING`; raises what the architecture raises."""
    config = tiny_config(model_type)
    named = None if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    return random_model(config, named=named)


def random_model(config: Any, seed: int = 0, named: str | None = None) -> Any:
    """Return a random model in float32 and evaluation mode, of the configuration's class or the named one.

    Norm weights, biases and sinks are moved off the ones and zeros that they start from, so that each has an effect.
    Does not change the global generator's state.
    """
    build = AutoModelForCausalLM.from_config if named is None else getattr(transformers, named)._from_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config, dtype=torch.float32)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() == 1 or name.endswith("bias"):
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def child_of(model: Any, seed: int = 1, scale: float = 0.1) -> Any:
    """Return a child whose every weight has moved a little, as a fine-tune moves them."""
    child = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in child.parameters():
            weight.add_(scale * weight.abs().mean() * torch.randn(weight.shape, generator=generator))
    return child


def tiny_config(model_type: str) -> Any:
    """Return the configuration of an architecture's language model, shrunk to `DEPTH` blocks."""
    tokenizer = tiny_tokenizer()
    config = CONFIG_MAPPING[model_type]()
    if not config.is_encoder_decoder:
        config = config.get_text_config(decoder=True)
    tiny = _shrunk(config.to_dict()) | _SPECIAL.get(config.model_type, {})
    tiny |= {
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
        "is_decoder": True,
        # With the usual 0.02, a random model's logits would all be nearly equal.
        **{name: 0.2 for name in ("initializer_range", "init_std") if name in tiny},
    }
    return type(config)(**tiny)


def _shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with tiny sizes, and with as many layers of each kind, in their order, as fit."""
    depth = next((size for name, size in config.items() if re.fullmatch(_DEPTH, name)), 0)
    each = {name: value for name, value in config.items() if isinstance(value, list) and len(value) == depth}
    kept: list[int] = []
    for layer in range(depth):
        if any(values[layer] not in [values[k] for k in kept] for values in each.values()):
            kept.append(layer)
    kept = sorted([*kept, *(layer for layer in range(depth) if layer not in kept)][:DEPTH])
    tiny = {}
    for name, value in config.items():
        size = next((size for pattern, size in _SIZES.items() if re.fullmatch(pattern, name)), None)
        if name == "per_layer_config":
            tiny[name] = {k: _shrunk(value[f"{layer:02d}"]) for k, layer in enumerate(kept) if f"{layer:02d}" in value}
        elif size is not None and ((type(value) is int and value) or name == "head_dim"):
            tiny[name] = size
        elif name in each:
            tiny[name] = [value[layer] for layer in kept]
        elif isinstance(value, dict) and ("model_type" in value or name.startswith("rope_")):
            # Another depth than the decoder's: a list of as many blocks could be taken for it.
            tiny[name] = {k: 2 if re.fullmatch(_DEPTH, k) else v for k, v in _shrunk(value).items()}
        else:
            tiny[name] = value
    if "kv_lora_rank" in config:
        # Latent attention: each head has keys and values of its own; `head_dim` may be that of the rotary part.
        tiny["num_key_value_heads"] = 4
        if "head_dim" in config:
            tiny["head_dim"] = 6 if config["head_dim"] == config["qk_rope_head_dim"] else 18
    if tiny.get("num_key_value_heads", 0) is None:
        tiny["num_key_value_heads"] = 4
    if "partial_rotary_factor" in config:
        tiny["partial_rotary_factor"] = 0.5
    return tiny
