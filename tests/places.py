"""Simulated devices for the tests: CPU tensors that report another device, and do not mix with tensors of others.

A tensor on `A` or `B` computes on the CPU. It combines with a tensor of another device only where PyTorch lets a GPU's:
single numbers, indices on the CPU, and `to`. So code that would fail on two GPUs fails here.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from crosspatch.models.blocks import name_of_blocks

A, B = torch.device("cuda", 0), torch.device("cuda", 1)
CPU = torch.device("cpu")

# Functions that take a CPU index for a tensor on any device, and functions that move tensors.
_INDEXING = {"__getitem__", "__setitem__", "index_select"}
_MOVING = {"to", "cpu", "type_as"}


class Placed(Tensor):
    """A CPU tensor that reports another device."""

    place: torch.device

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _called(func, args, dict(kwargs or {}))


def place_of(tensor: Tensor) -> torch.device:
    return tensor.place if isinstance(tensor, Placed) else CPU


def placed(tensor: Tensor, place: torch.device) -> Tensor:
    """The same numbers on a device."""
    with torch._C.DisableTorchFunctionSubclass():
        plain = tensor.as_subclass(Tensor) if isinstance(tensor, Placed) else tensor
        if place.type == "cpu":
            return plain
        there = plain.view_as(plain).as_subclass(Placed)
    there.place = place
    return there


def _called(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "__name__", "")
    owner = getattr(getattr(func, "__self__", None), "__name__", "")
    with torch._C.DisableTorchFunctionSubclass():
        if name == "__get__" and owner == "device":
            return place_of(args[0])
        if name in _MOVING:
            return _moved(name, args, kwargs)
        if name == "grad":
            # Autograd itself moves gradients between devices.
            found = func(*args, **kwargs)
            return tuple(placed(one, place_of(read)) for one, read in zip(found, args[1], strict=True))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        places = {place_of(t) for t in tensors if t.dim() > 0 or isinstance(t, Placed)}
        if name in _INDEXING:
            places = {place_of(args[0])} | {p for p in places if p != CPU}
        if isinstance(kwargs.get("device"), torch.device) and kwargs["device"].type == "cuda":
            places |= {kwargs["device"]}
            kwargs = {**kwargs, "device": CPU}
        if len(places) > 1:
            raise RuntimeError(f"{name} got tensors on {', '.join(sorted(map(str, places)))}")
        result = func(*args, **kwargs)
        here = next(iter(places), CPU)
        if name in {"__get__", "__set__"} and not isinstance(result, Tensor):
            return result
        return tree_map(lambda x: placed(x, here) if type(x) is Tensor and here != CPU else x, result)


def _moved(name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    tensor, *rest = args
    if name == "cpu":
        return placed(tensor, CPU)
    target, plain = place_of(tensor), []
    kwargs.pop("non_blocking", None)
    for value in (*rest, kwargs.pop("device", None)):
        if isinstance(value, Tensor):
            target = place_of(value)
            plain.append(value.dtype)
        elif isinstance(value, torch.device | str):
            target = torch.device(value)
        elif value is not None:
            plain.append(value)
    numbers = placed(tensor, CPU)
    return placed(numbers.to(*plain, **kwargs) if plain or kwargs else numbers, target)


class TwoDevices(TorchFunctionMode):
    """Within the context tensors can be made on simulated devices, and moved there."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _called(func, args, dict(kwargs or {}))


def put_whole(model: Any, place: torch.device) -> Any:
    """A model on one device."""
    for part in model.modules():
        for kind in (part._parameters, part._buffers):
            for name, weight in kind.items():
                if weight is not None:
                    kind[name] = placed(weight.detach(), place)
    return model


def put(module: nn.Module, place: torch.device) -> nn.Module:
    """A module with its weights on a device, to which it moves its inputs, as accelerate's hooks do."""
    plain = put_whole(module, place).forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = tree_map(lambda x: x.to(place) if isinstance(x, Tensor) else x, (args, kwargs))
        return plain(*args, **kwargs)

    module.forward = forward
    return module


def put_in_turn(model: Any) -> Any:
    """A model with its parts on both devices in turn."""
    blocks = name_of_blocks(model)
    leaves = ((name, module) for name, module in model.named_modules() if name and not any(module.children()))
    around = [module for name, module in leaves if not name.startswith(blocks)]
    for i, part in enumerate([*around, *model.get_submodule(blocks)]):
        put(part, (A, B)[i % 2])
    return model
