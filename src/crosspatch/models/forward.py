"""One plain forward pass."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from crosspatch.models.unembedding import unembed


def last_logits(model: nn.Module, tokens: Tensor, *, float32: bool = False) -> Tensor:
    """The logits [1, V], in float32, after the last of `tokens` [1, T]; see `unembed` for `float32`."""
    if float32:
        body: nn.Module = model.base_model  # type: ignore[assignment]
        return unembed(model, body(input_ids=tokens, use_cache=False)[0][0, -1:], float32=True)
    options: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        options["logits_to_keep"] = 1
    logits: Tensor = model(input_ids=tokens, use_cache=False, **options).logits
    return logits[:, -1].float()
