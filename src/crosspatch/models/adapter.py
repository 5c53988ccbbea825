"""Adds low-rank adapters (LoRA) to a model that will be trained, and finds the layers that they change."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import Linear
from torch.nn.modules.conv import _ConvNd
from transformers.pytorch_utils import Conv1D

from crosspatch.models.blocks import decoder, text_config

_NAMES_OF_EXPERTS = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})


def with_adapter(model: Any, rank: int, alpha: int, seed: int) -> Any:
    """Return the model with trainable low-rank updates of its decoder's linear layers; all other weights are frozen.

    The updates cover `linear_layers` and `expert_weights`. They start at zero: one factor is sampled with the seed,
    the other is 0. The state of the global generator does not change.
    """
    from peft import LoraConfig, get_peft_model

    # GPT-2's Conv1D stores weights transposed.
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    layers, experts = list(linear_layers(model)), list(expert_weights(model))
    whole = text_config(model) is model.config and not experts
    # PEFT mistakes dense layers with these names for experts of older checkpoints, and skips them in MoE models.
    dense = [name for name in layers if experts and name.rpartition(".")[2] in _NAMES_OF_EXPERTS]
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        # PEFT's all-linear includes the linear layers of an image encoder.
        target_modules="all-linear" if whole else [name for name in layers if name not in dense],
        target_parameters=[*experts, *(f"{name}.weight" for name in dense)] or None,
        fan_in_fan_out=transposed,
    )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return get_peft_model(model, settings)


def linear_only(model: Any) -> Any:
    """Make the model's linear layers trainable, except the unembedding, freeze all other weights, and return it."""
    model.requires_grad_(False)
    for layer in linear_layers(model).values():
        layer.weight.requires_grad_(True)
    return model


def cut_to_adapter(model: Any, changed: Any, rank: int, alpha: int, seed: int) -> Any:
    """Return `model` with the trainable adapter of this rank that best approximates the linear layers of `changed`.

    The adapter keeps the largest singular values of each layer's change, which minimises the layer's squared error.
    """
    wanted, scale = linear_layers(changed), alpha / rank
    parts = {}
    for name, layer in linear_layers(model).items():
        with torch.no_grad():
            change = (wanted[name].weight.to(layer.weight.device) - layer.weight).float()
            left, values, right = torch.linalg.svd(
                change.T if isinstance(layer, Conv1D) else change, full_matrices=False
            )
            roots = (values[:rank] / scale).sqrt()
            parts[name] = left[:, :rank] * roots, roots[:, None] * right[:rank]
    adapted = with_adapter(model, rank, alpha, seed)
    for name, (up, down) in parts.items():
        layer = adapted.get_submodule(f"base_model.model.{name}")
        with torch.no_grad():
            layer.lora_B["default"].weight.zero_()[:, : up.shape[1]] = up
            layer.lora_A["default"].weight.zero_()[: down.shape[0]] = down
    return adapted


def linear_layers(model: Any) -> dict[str, Any]:
    """Return the layers that an adapter changes, by name: all linear layers of the decoder (Conv1D in GPT-2)."""
    inside = set(decoder(model).modules()) - {model.get_output_embeddings()}
    return {name: m for name, m in model.named_modules() if isinstance(m, (Linear, Conv1D)) and m in inside}


def expert_weights(model: Any) -> dict[str, Any]:
    """Return, by name, the weights that hold E experts in one tensor [E, in, out] or [E, out, in]."""
    inside = set(decoder(model).modules())
    return {
        f"{name}.{weight}": value
        for name, module in model.named_modules()
        if module in inside and not isinstance(module, _ConvNd)
        for weight, value in module.named_parameters(recurse=False)
        if value.dim() == 3
    }
