"""A model's weights under the names, and with the values, that a plain model would have; and their fingerprint.

The value of a weight includes an adapter's update, is loaded where the weight is offloaded, and dequantised where it
is quantised.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crosspatch.models.shared_base import adapted_layers, update_of

# Numbers of each weight that a fingerprint takes.
_SAMPLE = 4096


@dataclass(frozen=True, eq=False)
class Weight:
    """One weight: the stored tensor, its module, and the adapter's layer that wraps the module.

    `is_buffer`: it is saved with the weights, but not trained.
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
        """The weight that the model computes with."""
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
        """Every `step`th number in float32 on the CPU, of the value, or of the stored tensor where it is quantised."""
        kept = self.stored.detach().flatten()[::step].cpu()
        if self.adapter is not None and not self.is_quantized:
            kept = (kept.float() + update_of(self.adapter).flatten()[::step]).to(kept.dtype)
        return kept.float()


def weights_of(model: nn.Module) -> dict[str, Weight]:
    """All weights, and the buffers that are saved with them, by their plain names; tied ones under each name."""
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
            # Accelerate keeps offloaded weights here.
            offloaded = stored.device.type == "meta"
            tensor = module._hf_hook.weights_map[name] if offloaded else stored
            found[f"{inside}.{name}" if inside else name] = Weight(tensor, module, adapter, name in saved)
    return found


def fingerprint(model: nn.Module) -> str:
    """Sixteen hex digits over every weight's name, shape, type and a sample of up to 4,096 of its values.

    The sample is evenly spaced, so a fine-tune, which changes nearly all values, changes the fingerprint; reading all
    bytes of a large model would take minutes. It is the same for a merged adapter and one on the base's weights.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(weights_of(model).items()):
        step = -(-weight.stored.numel() // _SAMPLE) or 1
        digest.update(f"{name} {tuple(weight.stored.shape)} {weight.stored.dtype}".encode())
        digest.update(weight.sample(step).numpy().tobytes())
        if weight.adapter is not None and weight.is_quantized:
            digest.update(update_of(weight.adapter).numpy().tobytes())
    return digest.hexdigest()
