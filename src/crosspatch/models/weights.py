"""A model's weights under the names, and with the values, that a plain model would have; and a short name for them.

Where an adapter stands beside a weight its update is added when the value is asked for; where a weight is kept on the
CPU until it is used it is looked for there; where it is quantised it is made whole again.
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
    """One weight: the tensor that is kept, the module that has it, and the adapter's layer round that module.

    `is_buffer`: it is saved with the weights, but not trained.
    """

    stored: Tensor
    module: nn.Module
    adapter: Any | None = None
    is_buffer: bool = False

    @property
    def is_quantized(self) -> bool:
        """Whether what is kept is no weight, but the code of one."""
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
        """Every `step`th number in float32 on the CPU, of the value, or of the code where it is quantised."""
        kept = self.stored.detach().flatten()[::step].cpu()
        if self.adapter is not None and not self.is_quantized:
            kept = (kept.float() + update_of(self.adapter).flatten()[::step]).to(kept.dtype)
        return kept.float()


def weights_of(model: nn.Module) -> dict[str, Weight]:
    """All weights, and the buffers that are saved with them, by their plain names; tied ones under each name."""
    adapters = adapted_layers(model)
    found: dict[str, Weight] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        inside = path.removesuffix(".base_layer")
        adapter = adapters.get(inside) if inside != path else None
        if path in adapters or any(path.startswith(f"{name}.lora_") for name in _above(path, adapters)):
            continue
        own = {**module._parameters, **{n: b for n, b in module._buffers.items() if n in _saved(module)}}
        for name, stored in own.items():
            if stored is not None:
                plain = f"{inside}.{name}" if inside else name
                beside = adapter if name == "weight" else None
                found[plain] = Weight(_fetched(module, name, stored), module, beside, name in module._buffers)
    return found


def fingerprint(model: nn.Module) -> str:
    """Sixteen hex digits over every weight's name, shape, type and a sample of up to 4,096 of its values.

    The sample is evenly spaced, so a fine-tune, which moves nearly all values, changes it; reading all bytes of
    a large model would take minutes. An adapter that is merged and one beside the base's weights have the same.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(weights_of(model).items()):
        step = -(-weight.stored.numel() // _SAMPLE) or 1
        digest.update(f"{name} {tuple(weight.stored.shape)} {weight.stored.dtype}".encode())
        digest.update(weight.sample(step).numpy().tobytes())
        if weight.adapter is not None and weight.is_quantized:
            digest.update(update_of(weight.adapter).numpy().tobytes())
    return digest.hexdigest()


def _above(path: str, adapters: dict[str, Any]) -> list[str]:
    """The adapted layers that a module is in."""
    parts = path.split(".")
    return [name for i in range(len(parts)) if (name := ".".join(parts[:i])) in adapters]


def _saved(module: nn.Module) -> set[str]:
    return module._buffers.keys() - module._non_persistent_buffers_set


def _fetched(module: nn.Module, name: str, stored: Tensor) -> Tensor:
    """The tensor itself, from where it is kept until it is used."""
    if stored.device.type != "meta":
        return stored
    kept: Tensor = module._hf_hook.weights_map[name]  # type: ignore[union-attr,index]
    return kept
