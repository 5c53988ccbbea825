"""Finds a model's weights, with the names and values of a plain model, and computes their fingerprint.

A weight's value includes an adapter's update; offloaded weights are loaded, and quantised weights are dequantised.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crosspatch.models.shared_base import adapted_layers, update_of

# A fingerprint samples up to this many numbers of each weight.
_SAMPLE = 4096


@dataclass(frozen=True, eq=False)
class Weight:
    """One weight: the stored tensor, its module, and the adapter's layer that wraps the module.

    `is_buffer`: the tensor is saved with the weights, but not trained.
    """

    stored: Tensor
    module: nn.Module
    adapter: Any | None = None
    is_buffer: bool = False

    @property
    def is_quantized(self) -> bool:
        """Whether the stored tensor encodes the weight in fewer bits."""
        return hasattr(self.stored, "quant_state") or hasattr(self.stored, "SCB")

    @torch.no_grad()
    def value(self) -> Tensor:
        """Return the weight that the model computes with."""
        if self.is_quantized:
            from peft.utils.integrations import dequantize_module_weight

            value: Tensor = dequantize_module_weight(self.module)
        else:
            value = self.stored
        if self.adapter is None:
            return value
        return (value.float() + update_of(self.adapter).to(value.device)).to(value.dtype)

    @torch.no_grad()
    def sample(self, step: int) -> Tensor:
        """Return every `step`th number in float32 on the CPU: of the value, or of the stored tensor if quantised."""
        kept = self.stored.detach().flatten()[::step].cpu()
        if self.adapter is not None and not self.is_quantized:
            kept = (kept.float() + update_of(self.adapter).flatten()[::step]).to(kept.dtype)
        return kept.float()


def weights_of(model: nn.Module) -> dict[str, Weight]:
    """Return all weights and saved buffers by their plain names; tied weights appear under each name."""
    adapters = adapted_layers(model)
    found: dict[str, Weight] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if path.partition(".lora_")[0] in adapters:
            continue
        inside = path.removesuffix(".base_layer")
        saved = {n: b for n, b in module._buffers.items() if n not in module._non_persistent_buffers_set}
        for name, stored in (module._parameters | saved).items():
            if stored is None:
                continue
            adapter = adapters.get(inside) if inside != path and name == "weight" else None
            # Accelerate keeps offloaded weights in the hook's map.
            offloaded = stored.device.type == "meta"
            tensor = module._hf_hook.weights_map[name] if offloaded else stored
            found[f"{inside}.{name}" if inside else name] = Weight(tensor, module, adapter, name in saved)
    return found


def fingerprint(model: nn.Module) -> str:
    """Return sixteen hex digits that hash every weight's name, shape, dtype and a sample of up to 4,096 values.

    The sample is evenly spaced, so a fine-tune, which changes nearly all values, changes the fingerprint; reading all
    bytes of a large model would take minutes. An adapter has the same fingerprint merged and unmerged.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(weights_of(model).items()):
        step = -(-weight.stored.numel() // _SAMPLE) or 1
        digest.update(f"{name} {tuple(weight.stored.shape)} {weight.stored.dtype}".encode())
        digest.update(weight.sample(step).numpy().tobytes())
        if weight.adapter is not None and weight.is_quantized:
            digest.update(update_of(weight.adapter).numpy().tobytes())
    return digest.hexdigest()
