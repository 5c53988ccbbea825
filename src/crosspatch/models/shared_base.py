"""Loads adapters as children: on the same weights as their base, or merged into a copy of the weights.

In the first case the weights are in memory once: the child has its own modules, but their parameters are the base's
tensors, and PEFT adds the unmerged low-rank updates to its linear layers. Both models are ordinary modules with their
own hooks, so no adapter has to be switched on and off.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from crosspatch.errors import UsageError
from crosspatch.models.placement import is_offloaded
from crosspatch.models.safe_loading import ADAPTER

NAME = "default"
# Settings of a plain LoRA that may have any value: its sizes, its layers, and notes.
_FREE = frozenset(
    {
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
        *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "qalora_group_size"),
        *("revision", "runtime_config", "task_type", "peft_type", "init_lora_weights"),
    }
)


def child_on(base: Any, folder: Path, settings: Mapping[str, Any]) -> Any | None:
    """Return a child with the adapter in `folder` on the base's own weights; None unless it is a plain LoRA in blocks.

    The base does not change: its weights stay trainable or frozen. Raises PEFT's error if PEFT cannot read the
    folder.
    """
    if not _is_plain(settings) or is_offloaded(base):
        # Offloaded weights become new tensors each time they are loaded.
        return None
    trainable = [(weight, weight.requires_grad) for weight in base.parameters()]
    try:
        child = add_adapter(sharing(base), folder)
    finally:
        for weight, before in trainable:
            weight.requires_grad_(before)
    return child if _only_adds(child) else None


def sharing(model: Any) -> Any:
    """Return a copy of a model with new modules and a new configuration, but the same tensors."""
    kept: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, kept)


def add_adapter(model: Any, folder: Path) -> Any:
    """Add a PEFT adapter to a model's layers without merging it into their weights; return the model itself.

    Raises ValueError if the folder's weights do not match its settings.
    """
    from peft import PeftConfig, inject_adapter_in_model, set_peft_model_state_dict
    from peft.tuners.tuners_utils import cast_adapter_dtype

    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = True
    weights = {key.removeprefix("base_model.model."): value for key, value in load_file(folder / ADAPTER).items()}
    model = inject_adapter_in_model(config, model, adapter_name=NAME)
    # PEFT also keeps adapters that it loads in float32 if the model is in half precision.
    cast_adapter_dtype(model, adapter_name=NAME, autocast_adapter_dtype=True)
    found = set_peft_model_state_dict(model, weights, adapter_name=NAME)
    lacking = [key for key in found.missing_keys if ".lora_" in key]
    if lacking or found.unexpected_keys:
        raise ValueError(f"its weights and its settings do not match: {(*lacking, *found.unexpected_keys)[0]}")
    return model.eval()


def merged(base: Any, folder: str) -> Any:
    """Return the base with the PEFT adapter in `folder` merged into its weights, in place.

    If the adapter changes an embedding or unembedding that are tied, each first gets its own weight: the update belongs
    to one of them, and merging it would change both.
    """
    from peft import PeftModel

    with warnings.catch_warnings():
        # PEFT warns that tied weights cannot be merged; they are untied below.
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        model = PeftModel.from_pretrained(base, folder)
        _untie(model.get_base_model())
        model = model.merge_and_unload()
    # PEFT froze the base; the merged model may be fine-tuned.
    return model.requires_grad_(True)


def _untie(model: Any) -> None:
    """Give the unembedding its own weights if an adapter has wrapped it or the embedding that is tied to it."""
    embedding, unembedding = model.get_input_embeddings(), model.get_output_embeddings()
    if unembedding is None or not any("peft" in type(end).__module__ for end in (embedding, unembedding)):
        return
    shared = {id(weight) for weight in embedding.parameters()}
    for module in unembedding.modules():
        for name, weight in module._parameters.items():
            if id(weight) in shared:
                module._parameters[name] = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    for config in (model.config, model.config.get_text_config(decoder=True)):
        config.tie_word_embeddings = False


def unwrapped(model: Any) -> Any:
    """Return the model inside a PeftModel, with the adapter in its layers; return any other model unchanged.

    Raises UsageError for adapters that do more than change layers, such as learned prompts.
    """
    if not hasattr(model, "get_base_model"):
        return model
    from peft.tuners.tuners_utils import BaseTuner

    kinds = {str(getattr(config.peft_type, "value", config.peft_type)) for config in model.peft_config.values()}
    if not isinstance(model.base_model, BaseTuner) or kinds & {"XLORA", "ADAPTION_PROMPT"}:
        raise UsageError(
            f"got a PeftModel with {' and '.join(sorted(kinds))}, which is more than changed layers; expected an "
            "adapter such as LoRA"
        )
    return model.get_base_model()


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """Return the layers that an adapter has wrapped, by their names in the model; empty for a plain model."""
    if not hasattr(model, "peft_config"):
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def update_of(layer: Any) -> torch.Tensor:
    """Return the update that a layer's adapter adds to its weight, in float32, computed on the CPU as PEFT merges do.

    Raises UsageError for several adapters, and for an adapter that does more than add, such as DoRA.
    """
    name, *others = layer.active_adapters
    if others or name in getattr(layer, "lora_variant", {}):
        raise UsageError(
            "got several adapters, or one that does more than add to weights; merge it into its model first"
        )
    up, down = (part[name].weight.detach().cpu().float() for part in (layer.lora_B, layer.lora_A))
    product = up @ down
    return (product.T if layer.fan_in_fan_out else product) * layer.scaling[name]


def _is_plain(settings: Mapping[str, Any]) -> bool:
    """Whether an adapter only adds products of two matrices: all its other settings have their default values."""
    from peft import LoraConfig

    if settings.get("peft_type") != "LORA" or settings.get("init_lora_weights", True) not in (True, False, "gaussian"):
        return False
    usual = LoraConfig().to_dict()
    others = settings.keys() - _FREE
    return all(name in usual and (settings[name] or None) == (usual[name] or None) for name in others)


def _only_adds(child: nn.Module) -> bool:
    """Whether `update_of` covers everything that an adapter changed."""
    from peft.tuners.lora import Linear

    ends = (child.get_input_embeddings(), child.get_output_embeddings())  # type: ignore[operator]
    # 4-bit linear layers keep all their state with the weight; 8-bit linear layers do not.
    known = {(Linear, nn.Linear), (Linear, Conv1D)}
    return all(
        ((type(layer), type(layer.get_base_layer())) in known or type(layer).__name__ == "Linear4bit")
        and not any(layer is end for end in ends)
        for layer in adapted_layers(child).values()
    )
