"""One plain forward pass, and what the arguments of one are called."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from crosspatch.models.blocks import decoder
from crosspatch.models.placement import input_device
from crosspatch.models.unembedding import unembed


def last_logits(model: nn.Module, tokens: Tensor, *, float32: bool = False) -> Tensor:
    """The logits [1, V], in float32, after the last of `tokens` [1, T]; see `unembed` for `float32`."""
    tokens = tokens.to(input_device(model))
    if float32:
        return unembed(model, decoder(model)(input_ids=tokens, use_cache=False)[0][0, -1:], float32=True)
    options: dict[str, Any] = {}
    if keeps_logits(model):
        options["logits_to_keep"] = 1
    logits: Tensor = model(input_ids=tokens, use_cache=False, **options).logits
    return logits[:, -1].float()


def cache_argument(model: nn.Module) -> str:
    """What a forward pass calls the keys and values that it is given: newer transformers say `cache`."""
    # Of its class: libraries that spread a model over devices put another `forward` on the object.
    return "cache" if "cache" in inspect.signature(type(_plain(model)).forward).parameters else "past_key_values"


def keeps_logits(model: nn.Module) -> bool:
    """Whether the model can be asked for the logits of the last positions alone (`logits_to_keep`)."""
    return "logits_to_keep" in inspect.signature(_plain(model).forward).parameters


def _plain(model: nn.Module) -> nn.Module:
    # An adapter's wrapper hands on what it is given; the signature is its model's.
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
