"""One forward pass and the key-value cache it reads and grows."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from crosspatch.errors import UsageError


def new_cache(config: Any) -> Any:
    """An empty cache for a model of this (text) configuration; needs no weights.

    Raises UsageError where the past is more than keys and values: `fork` shares tensors, so a layer that changes
    its state in place would be patched wrongly without anybody noticing.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    cache = DynamicCache(config=config)
    # Exact types: hybrid layers inherit from these.
    foreign = {type(layer).__name__ for layer in cache.layers} - {
        DynamicLayer.__name__,
        DynamicSlidingWindowLayer.__name__,
    }
    if foreign:
        raise UsageError(
            f"{config.model_type} models keep a past of {', '.join(sorted(foreign))}, which the cached engine cannot "
            "patch exactly; use the reference engine (--set patch.engine=reference)"
        )
    return cache


def fork(cache: Any) -> Any:
    """A cache with the same past, to be grown and thrown away; the first one stays as it is.

    Costs nothing: growing a dynamic cache makes new tensors, so both can share the old ones.
    """
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked


def last_logits(model: nn.Module, tokens: Tensor, cache: Any | None = None) -> Tensor:
    """The logits [B, V] after the last of `tokens` [B, T], in float32; `cache` is read and grown."""
    options: dict[str, Any] = {} if cache is None else {"past_key_values": cache}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        options["logits_to_keep"] = 1
    logits: Tensor = model(input_ids=tokens, use_cache=cache is not None, **options).logits
    return logits[:, -1].to(torch.float32)
