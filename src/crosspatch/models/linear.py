"""Faster matrix products on CPUs, for few rows.

PyTorch multiplies float32 on CPUs by MKL, which on many processors is half as fast as oneDNN for the 2 to 64 rows of
text that generate in lockstep. The values are the same up to the order of summation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

# Rows are filled up to a multiple of so many.
ROWS = 2

_layers: WeakKeyDictionary[nn.Module, list[nn.Linear]] = WeakKeyDictionary()


@contextmanager
def fast_linear(model: nn.Module) -> Iterator[None]:
    """Within the context the model's linear layers multiply by oneDNN, where they are float32 on a CPU.

    Nothing changes where PyTorch was built without it, or where gradients are wanted, which it does not give.
    """
    if torch.is_grad_enabled() or not torch.backends.mkldnn.is_available():
        yield
        return
    if model not in _layers:
        # Exactly these: what inherits from Linear may compute something else.
        _layers[model] = [module for module in model.modules() if type(module) is nn.Linear]
    with ExitStack() as stack:
        for layer in _layers[model]:
            weight = layer.weight
            if weight.device.type == "cpu" and weight.dtype == torch.float32 and "forward" not in layer.__dict__:
                stack.enter_context(replaced_forward(layer, _product(weight, layer.bias)))
        yield


def _product(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    def product(x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        # For every new number of rows oneDNN makes a program, which costs time and near a megabyte: some numbers do.
        more = -rows % (ROWS if rows > ROWS else 1)
        if not more:
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        padded = nn.functional.pad(x.reshape(rows, -1), (0, 0, 0, more))
        products = torch.ops.mkldnn._linear_pointwise(padded, weight, bias, "none", [], "")
        return products[:rows].view(*x.shape[:-1], -1)

    return product


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the context the module computes `forward` instead of its own."""
    # Libraries that spread a model over devices put a `forward` on the object too: it has to come back.
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
