"""From last hidden states to logits, by whatever an unmodified model does after its body.

Scales, soft caps and biases stand in each model's own `forward`; it is run with its body replaced by the hidden
states at hand, so nothing has to be known of them, and logits can be made a few positions at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# Positions that are unembedded at once: enough to use the processor well, few enough to stay in its cache.
UNEMBED_AT_ONCE = 96


class _Body:
    """What a model's head asks its body for: the hidden states, and nothing else."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int | slice) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


def unembed(model: nn.Module, hidden: Tensor, *, float32: bool = False) -> Tensor:
    """Logits [N, V], in float32 and on their device, of hidden states [N, D] taken after the final norm.

    `float32` multiplies in float32 too, whatever the weights are in: their values are the same, the sums are not
    rounded. It costs a float32 copy of the unembedding for the time of the call.
    """
    body: nn.Module = model.base_model  # type: ignore[assignment]
    head: Any = model.get_output_embeddings()  # type: ignore[operator]

    with replaced_forward(body, lambda *_, **__: _Body(hidden[None])):
        # The ids are not read: only something that looks like input.
        ids = torch.zeros((1, hidden.shape[0]), dtype=torch.long, device=hidden.device)
        if float32 and head.weight.dtype != torch.float32:
            with replaced_forward(head, _in_float32(head)):
                logits = model(input_ids=ids, use_cache=False).logits
        else:
            logits = model(input_ids=ids, use_cache=False).logits
    return logits[0].float().to(hidden.device)


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


def _in_float32(head: nn.Module) -> Callable[[Tensor], Tensor]:
    if type(head) is not nn.Linear:
        # With an adapter round it, say, its weight alone is not what it computes.
        return copy.deepcopy(head).float()

    from accelerate.utils import align_module_device

    def wide(x: Tensor) -> Tensor:
        # Weights that are kept elsewhere until they are used are brought in.
        with align_module_device(head):
            bias = None if head.bias is None else head.bias.float()
            return nn.functional.linear(x.to(head.weight.device, torch.float32), head.weight.float(), bias)

    return wide
