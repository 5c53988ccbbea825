"""Linear layers by oneDNN, on CPUs where it multiplies faster than PyTorch's default."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from crosspatch.models.unembedding import replaced_forward

# Rows of a pass for which the two are compared: oneDNN has to be faster for several, and not slower for one.
_ROWS = (1, 8, 32)


@contextmanager
def fast_linear(model: nn.Module) -> Iterator[None]:
    """Within the context, float32 linear layers on the CPU are computed by oneDNN, if it is faster on this machine.

    It has no gradients, so nothing changes where they are enabled. Sums are taken in another order.
    """
    with ExitStack() as stack:
        if not torch.is_grad_enabled() and onednn_is_faster():
            for module in model.modules():
                if type(module) is not nn.Linear or "forward" in module.__dict__:
                    continue
                if module.weight.dtype == torch.float32 and module.weight.device.type == "cpu":
                    stack.enter_context(replaced_forward(module, partial(_by_onednn, module)))
        yield


def _by_onednn(module: nn.Linear, x: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, module.weight, module.bias, "none", [], "")
    return product


@cache
def onednn_is_faster() -> bool:
    """Measure whether oneDNN multiplies faster here; takes about a tenth of a second."""
    if not torch.backends.mkldnn.is_available():
        return False
    # More weights than fit a processor's cache, as in a model.
    layers = [nn.Linear(1024, 1024, bias=False) for _ in range(24)]
    with torch.inference_mode():
        ratios = [
            _seconds(_by_onednn, layers, x) / _seconds(nn.Linear.forward, layers, x)
            for x in (torch.ones(rows, 1024) for rows in _ROWS)
        ]
    return ratios[0] < 1.1 and max(ratios[1:]) < 0.9


def _seconds(product: Callable[[nn.Linear, Tensor], Tensor], layers: Sequence[nn.Linear], x: Tensor) -> float:
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        for layer in layers:
            product(layer, x)
        taken.append(time.perf_counter() - start)
    return min(taken)
