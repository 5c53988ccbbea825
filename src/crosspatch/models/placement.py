"""Where a model's weights lie: on one device, spread over several, or on the CPU until they are used.

Spread models are accelerate's: hooks on its modules move what they read to where they compute. What crosspatch makes
itself (indices, masks, keys and values) has to follow, so it asks here, or looks at the tensor that it is to meet.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from crosspatch.config import DeviceMap

# Memory of a GPU that is left for what is not weights, where nothing else is said.
LEFT_FREE = 0.1


def input_device(model: Any) -> torch.device:
    """Where a model's token ids belong: the device on which its embedding computes."""
    embedding: nn.Module = model.get_input_embeddings()
    weight = next(embedding.parameters())
    if weight.device.type != "meta":
        return weight.device
    # Kept elsewhere, and brought here when it is used.
    return torch.device(embedding._hf_hook.execution_device)  # type: ignore[union-attr,arg-type]


def device_names(model: nn.Module) -> str:
    """The devices on which a model's weights lie, in the order of the weights, for people."""
    devices = (str(weight.device) for weight in model.parameters())
    return ", ".join(dict.fromkeys("cpu until used" if name == "meta" else name for name in devices))


def is_offloaded(model: nn.Module) -> bool:
    """Whether some weights are kept elsewhere until they are used."""
    return any(weight.device.type == "meta" for weight in model.parameters())


def memory_of_devices(max_memory_gb: float | None) -> dict[int | str, int]:
    """Bytes that a model may take of each GPU, by its number, and of the CPU.

    What is free, less a tenth of each GPU for what is not weights; `max_memory_gb` (10⁹ bytes) is the most of each GPU.
    """
    import psutil

    room: dict[int | str, int] = {}
    for number in range(torch.cuda.device_count()):
        free = int(torch.cuda.mem_get_info(number)[0] * (1 - LEFT_FREE))
        room[number] = free if max_memory_gb is None else min(free, int(max_memory_gb * 1e9))
    return {**room, "cpu": int(psutil.virtual_memory().available)}


def spread_options(device_map: DeviceMap, max_memory_gb: float | None) -> dict[str, Any]:
    """What `spread`, and Hugging Face's `from_pretrained`, are told of it."""
    return {"device_map": device_map, "max_memory": memory_of_devices(max_memory_gb)}


def spread(model: Any, device_map: DeviceMap, max_memory: dict[int | str, int]) -> Any:
    """A model that is in memory, its blocks spread over devices; whole blocks, so that each computes on one."""
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    whole = list(model._no_split_modules or ())
    model.tie_weights()
    if device_map != "sequential":
        max_memory = get_balanced_memory(model, max_memory=max_memory, no_split_module_classes=whole)
    places = infer_auto_device_map(model, max_memory=max_memory, no_split_module_classes=whole)
    return dispatch_model(model, places, skip_keys=model._skip_keys_device_placement)
