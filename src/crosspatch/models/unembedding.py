"""From last hidden states to logits, by the forward of an unmodified model after its decoder.

Scales, soft caps and biases are in each model's own `forward`. It runs with its body replaced by the given hidden
states, so none of them has to be known here, and logits can be computed a few positions at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from crosspatch.models.blocks import decoder, keeps_logits
from crosspatch.models.placement import input_device

# Positions that are unembedded at once: enough to use the processor well, few enough to stay in its cache.
UNEMBED_AT_ONCE = 96


class _Body:
    """The output of a body that has hidden states and nothing else."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int | slice) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


def unembed(model: nn.Module, hidden: Tensor, *, float32: bool = False) -> Tensor:
    """Logits [N, V], in float32 and on their device, of hidden states [N, D] taken after the final norm.

    `float32` multiplies in float32 too, also where the weights have another type: sums are then not rounded to it.
    It costs a float32 copy of the unembedding during the call.
    """
    body: nn.Module = model.base_model  # type: ignore[assignment]
    head: Any = model.get_output_embeddings()  # type: ignore[operator]

    own = not float32 or head.weight.dtype == torch.float32
    # A placeholder: the body does not read them.
    ids = torch.zeros((1, hidden.shape[0]), dtype=torch.long, device=hidden.device)
    with (
        replaced_forward(body, lambda *_, **__: _Body(hidden[None])),
        replaced_forward(head, head.forward if own else _in_float32(head)),
    ):
        logits = model(input_ids=ids, use_cache=False).logits
    return logits[0].float().to(hidden.device)


def last_logits(model: nn.Module, tokens: Tensor, *, float32: bool = False) -> Tensor:
    """The logits [1, V], in float32, after the last of `tokens` [1, T]; see `unembed` for `float32`."""
    tokens = tokens.to(input_device(model))
    if float32:
        return unembed(model, decoder(model)(input_ids=tokens, use_cache=False)[0][0, -1:], float32=True)
    options = {"logits_to_keep": 1} if keeps_logits(model) else {}
    logits: Tensor = model(input_ids=tokens, use_cache=False, **options).logits
    return logits[:, -1].float()


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the context the module computes `forward` instead of its own."""
    # Libraries that spread a model over devices also set `forward` on the object; it is restored.
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
        # An adapter's layer, for example, computes with more than its weight.
        return copy.deepcopy(head).float()

    from accelerate.utils import align_module_device

    def wide(x: Tensor) -> Tensor:
        # Loads offloaded weights.
        with align_module_device(head):
            bias = None if head.bias is None else head.bias.float()
            return nn.functional.linear(x.to(head.weight.device, torch.float32), head.weight.float(), bias)

    return wide
