"""Places a model's weights, in a precision: on one device, spread over several devices, or offloaded to the CPU.

Accelerate spreads models: hooks on their modules move inputs to the device on which a module computes. Tensors that
crosspatch creates (indices, masks, keys and values) are moved to the device of `input_device`, or of the tensor that
they are combined with.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import psutil
import torch
from torch import nn
from transformers import BitsAndBytesConfig

from crosspatch.config import DeviceMap, Quantization
from crosspatch.errors import UsageError

# Share of a GPU's free memory that is not used for weights, unless `max_memory_gb` is lower.
LEFT_FREE = 0.1
# In logits: if the models' ΔLs are closer, CTS has no meaning. For a dtype: the spacing of its numbers near 30, a
# typical logit. For quantised weights: about twice the mean difference between a cached and an uncached pass of
# SmolLM2, which is 0.48 in 8 bits, where activations are rounded to 8 bits as well, and 0.06 in 4 bits.
_SMALL = {torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.25}
_SMALL_QUANTIZED: dict[Quantization | None, float] = {"8bit": 1.0, "4bit": 0.1, None: 0.0}


def pick_device(device: str) -> str:
    """Return `device`, with `auto` replaced by the first GPU or the CPU. Raises UsageError if it is unavailable."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {device} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def pick_dtype(dtype: Any) -> torch.dtype:
    """Return a torch dtype, given itself or its name. Raises UsageError unless it is float32, bfloat16 or float16."""
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if found not in {torch.float32, torch.bfloat16, torch.float16}:
        raise UsageError(f"got dtype {dtype!r}, expected float32, bfloat16 or float16")
    return found


def small_denominator(model: Any) -> float:
    """In logits: if two models' ΔLs are closer than this in one model's precision, CTS has no meaning."""
    return max(_SMALL[model.dtype], _SMALL_QUANTIZED[quantization_of(model)])


def input_device(model: Any) -> torch.device:
    """Return the device for a model's token ids: the device on which its embedding computes."""
    embedding: nn.Module = model.get_input_embeddings()
    weight = next(embedding.parameters())
    if weight.device.type != "meta":
        return weight.device
    # An offloaded embedding is loaded to this device when it is used.
    return torch.device(embedding._hf_hook.execution_device)  # type: ignore[union-attr,arg-type]


def device_names(model: nn.Module) -> str:
    """Return the devices of a model's weights, in the order of the weights, for display."""
    devices = (str(weight.device) for weight in model.parameters())
    return ", ".join(dict.fromkeys("cpu until used" if name == "meta" else name for name in devices))


def is_offloaded(model: nn.Module) -> bool:
    """Whether some weights are offloaded until they are used."""
    return any(weight.device.type == "meta" for weight in model.parameters())


def memory_of_devices(max_memory_gb: float | None) -> dict[int | str, int]:
    """Return how many bytes a model may use of each GPU, by its number, and of the CPU.

    The limit is the free memory, less a tenth on each GPU for activations; `max_memory_gb` (10⁹ bytes) limits each GPU.
    """
    room: dict[int | str, int] = {}
    for number in range(torch.cuda.device_count()):
        free = int(torch.cuda.mem_get_info(number)[0] * (1 - LEFT_FREE))
        room[number] = free if max_memory_gb is None else min(free, int(max_memory_gb * 1e9))
    return {**room, "cpu": int(psutil.virtual_memory().available)}


def spread(model: Any, device_map: DeviceMap, max_memory: dict[int | str, int]) -> Any:
    """Spread a model in memory over devices; each block stays whole on one device."""
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    whole = list(model._no_split_modules or ())
    model.tie_weights()
    if device_map != "sequential":
        max_memory = get_balanced_memory(model, max_memory=max_memory, no_split_module_classes=whole)
    places = infer_auto_device_map(model, max_memory=max_memory, no_split_module_classes=whole)
    return dispatch_model(model, places, skip_keys=model._skip_keys_device_placement)


def quantized_config(quantization: Quantization, dtype: torch.dtype) -> Any:
    """Return bitsandbytes' config, which computes in `dtype`. Raises UsageError if bitsandbytes is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            f"models.quantization={quantization} needs bitsandbytes, which is not installed; run: "
            'pip install "crosspatch[quantized]"'
        )
    if quantization == "8bit":
        if dtype != torch.float16:
            name = str(dtype).removeprefix("torch.")
            raise UsageError(f"got dtype {name} with 8bit, which multiplies in float16; set models.dtype=float16")
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def quantization_of(model: Any) -> Quantization | None:
    """Return how bitsandbytes quantised a model's weights, or None if it did not."""
    if getattr(model, "is_loaded_in_8bit", False):
        return "8bit"
    return "4bit" if getattr(model, "is_loaded_in_4bit", False) else None
