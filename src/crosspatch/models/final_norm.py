"""The norm between the last block and the unembedding, found by what it reads and puts out."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from crosspatch.errors import UsageError
from crosspatch.models.blocks import decoder, find_blocks, hidden_of
from crosspatch.models.watching import few_tokens

_found: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def final_norm(model: nn.Module) -> nn.Module:
    """The module that turns the last block's output into what the unembedding reads. Raises UsageError if none does.

    The first call for a model runs it over five tokens.
    """
    if model not in _found:
        _found[model] = _name_of_norm(model)
    return model.get_submodule(_found[model])


@torch.no_grad()
def _name_of_norm(model: nn.Module) -> str:
    blocks = find_blocks(model)
    inside = {id(module) for module in blocks.modules()}
    last: list[Tensor] = []
    calls: list[tuple[str, Tensor, Tensor]] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            read, made = next(iter((*args, *kwargs.values())), None), hidden_of(output)
            if isinstance(read, Tensor) and isinstance(made, Tensor):
                calls.append((name, read, made))

        return hook

    handles = []
    try:
        handles.append(blocks[-1].register_forward_hook(lambda _, __, output: last.append(hidden_of(output))))
        for name, module in model.named_modules():
            if id(module) not in inside and not any(child is blocks for child in module.modules()):
                handles.append(module.register_forward_hook(watch(name), with_kwargs=True))
        hidden = decoder(model)(input_ids=few_tokens(model), use_cache=False)[0]
    finally:
        for handle in handles:
            handle.remove()
    fitting = [n for n, read, made in calls if _same(read, last[0]) and _same(made, hidden)]
    if len(fitting) != 1:
        raise UsageError(
            f"{type(model).__name__} has {len(fitting)} modules between its last block and its unembedding, expected "
            "one norm; its layers cannot be read by its own unembedding"
        )
    return fitting[0]


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other.to(one.device)))
