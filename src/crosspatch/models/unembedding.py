"""Computes logits from last hidden states, with the code of an unmodified model's forward after its decoder.

Each model's own `forward` applies its scales, soft caps and biases. It runs with the decoder replaced by the given
hidden states, so this module works for any model and can compute logits a few positions at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from crosspatch.models.blocks import decoder, keeps_logits, text_config
from crosspatch.models.placement import input_device

# Positions unembedded at once: enough to keep the processor busy, few enough to fit into its cache.
UNEMBED_AT_ONCE = 64


class _Body:
    """A decoder's output that has only hidden states."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int | slice) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


def unembed(model: nn.Module, hidden: Tensor, *, float32: bool = False) -> Tensor:
    """Return logits [N, V], in float32 and on their device, of hidden states [N, D] taken after the final norm.

    `float32` also multiplies in float32 if the weights have another dtype, so sums are not rounded to that dtype.
    This needs memory for a float32 copy of the unembedding during the call.
    """
    # A multimodal model's `forward` calls its decoder by way of the base model, which also reads images.
    body: Any = decoder(model) if text_config(model) is model.config else model.base_model
    head: Any = model.get_output_embeddings()  # type: ignore[operator]

    own = not float32 or head.weight.dtype == torch.float32
    # A placeholder: the replaced decoder does not read token ids.
    ids = torch.zeros((1, hidden.shape[0]), dtype=torch.long, device=hidden.device)
    with (
        replaced_forward(body, lambda *_, **__: _Body(hidden[None])),
        replaced_forward(head, head.forward if own else _in_float32(head)),
    ):
        logits = model(input_ids=ids, use_cache=False).logits
    return logits[0].float().to(hidden.device)


def last_logits(model: nn.Module, tokens: Tensor, *, float32: bool = False) -> Tensor:
    """Return the logits [1, V], in float32, after the last of `tokens` [1, T]; see `unembed` for `float32`."""
    tokens = tokens.to(input_device(model))
    if float32:
        return unembed(model, decoder(model)(input_ids=tokens, use_cache=False)[0][0, -1:], float32=True)
    options = {"logits_to_keep": 1} if keeps_logits(model) else {}
    logits: Tensor = model(input_ids=tokens, use_cache=False, **options).logits
    return logits[:, -1].float()


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the context, the module computes `forward` instead of its own."""
    # Libraries that spread a model over devices also set `forward` on the instance; it is restored afterwards.
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
        # For example an adapter's layer, which computes with more than its weight.
        return copy.deepcopy(head).float()

    from accelerate.utils import align_module_device

    def wide(x: Tensor) -> Tensor:
        # Accelerate's hook loads offloaded weights.
        with align_module_device(head):
            bias = None if head.bias is None else head.bias.float()
            return nn.functional.linear(x.to(head.weight.device, torch.float32), head.weight.float(), bias)

    return wide
