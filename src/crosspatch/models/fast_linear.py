"""Linear layers on the CPU: faster, and with sums that do not depend on the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspatch.models.unembedding import replaced_forward

# For layers with fewer weights, waking a second thread takes longer than the product.
SMALL = 2**16
# For each further number of rows, oneDNN generates code, which takes longer than it saves, and keeps it in memory.
MOST_ROWS = 64


@contextmanager
def fast_linear(model: nn.Module) -> Iterator[None]:
    """Within the context, float32 linear layers on the CPU are computed faster, unless gradients are enabled.

    oneDNN computes products of 2 to 64 rows. On an AMD EPYC with two threads it takes 0.5 to 0.75 of MKL's time for up
    to 37 rows. For 5 to 11 rows, MKL's sums also depend on the number of threads there, so workers would not give the
    same digits. A model whose layers are all small runs on one thread.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear and "forward" not in module.__dict__]
    ours = [layer for layer in layers if layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu"]
    with ExitStack() as stack:
        if torch.is_grad_enabled() or not torch.backends.mkldnn.is_available():
            pass
        elif ours and max(layer.weight.numel() for layer in ours) < SMALL:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        else:
            for layer in ours:
                stack.enter_context(replaced_forward(layer, partial(_product, layer)))
        yield


def _product(layer: nn.Linear, x: Tensor) -> Tensor:
    # For a single row, oneDNN is slower, and MKL uses one thread.
    if not 1 < x.numel() // x.shape[-1] <= MOST_ROWS:
        return F.linear(x, layer.weight, layer.bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    return product
