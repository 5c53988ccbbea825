"""Finds a decoder's blocks, their input and output hidden states [B, T, D], and names of forward arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from crosspatch.errors import UsageError

# What a block or a part of it returns: the hidden state, or a sequence that begins with it.
Output = Tensor | tuple[Any, ...] | list[Any]

# The name of each model's list of blocks. A name stays valid when an adapter replaces modules.
_found: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def find_blocks(model: nn.Module) -> nn.ModuleList:
    """Return the model's decoder blocks, first to last; the search runs once for each model.

    The blocks are the only list of `num_hidden_layers` modules in the decoder. Raises UsageError if no list or more
    than one fits.
    """
    blocks: nn.ModuleList = model.get_submodule(name_of_blocks(model))  # type: ignore[assignment]
    return blocks


def name_of_blocks(model: nn.Module) -> str:
    """Return the name of the list of blocks in the model. Raises UsageError like `find_blocks`."""
    if model not in _found:
        depth, inside = text_config(model).num_hidden_layers, set(decoder(model).modules())
        lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
        fitting = {name: m for name, m in lists.items() if len(m) == depth and m in inside}
        # Lists inside a block, such as a list of experts, may have the same length; blocks never contain other blocks.
        inner = {id(m) for lst in fitting.values() for m in lst.modules() if m is not lst}
        outer = [name for name, m in fitting.items() if id(m) not in inner]
        if len(outer) != 1:
            raise UsageError(f"{type(model).__name__} has {len(outer)} lists of {depth} blocks, expected one")
        _found[model] = outer[0]
    return _found[model]


def decoder(model: nn.Module) -> nn.Module:
    """Return the part of a model that maps token ids to last hidden states [B, T, D], without image encoders."""
    found: nn.Module = model.get_decoder() if hasattr(model, "get_decoder") else model  # type: ignore[operator]
    # Llama 4's `get_decoder` returns the model itself, ModernBERT's its unembedding.
    return found if found is not model and hasattr(found, "config") else getattr(model, "model", model)


def text_config(model: nn.Module) -> Any:
    """Return the configuration of the language model, also for a multimodal model."""
    return model.config.get_text_config(decoder=True)  # type: ignore[operator,union-attr]


def head_count(config: Any) -> int:
    """Return the number of query heads in each block of a (text) configuration; 0 if it has no such number."""
    heads = getattr(config, "num_attention_heads", None)
    return heads if isinstance(heads, int) else 0


def hidden_into(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return a block's input hidden state [B, T, D]: the first positional argument, or the keyword `hidden_states`."""
    return args[0] if args else kwargs["hidden_states"]


def hidden_of(output: Output) -> Tensor:
    """Return the hidden state [B, T, D] from the output of a block or its part: a tensor, or the first of several."""
    return output[0] if isinstance(output, tuple | list) else output


def with_hidden(output: Output, hidden: Tensor) -> Any:
    """Return a block's output with its hidden state replaced."""
    if isinstance(output, list):
        return [hidden, *output[1:]]
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def cache_argument(model: nn.Module) -> str:
    """Return the name of the cache's forward argument: `cache` in newer transformers; before, by architecture."""
    names = ("cache", "past_key_values", "cache_params", "state")
    return next((name for name in names if name in _forward_arguments(model)), "past_key_values")


def keeps_logits(model: nn.Module) -> bool:
    """Whether the model can compute logits for the last positions only (`logits_to_keep`)."""
    return "logits_to_keep" in _forward_arguments(model)


def _forward_arguments(model: nn.Module) -> frozenset[str]:
    # Inspect the class: libraries that spread a model over devices replace `forward` on the instance.
    return _arguments(type(_unwrapped(model)).forward)


@cache
def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _unwrapped(model: nn.Module) -> nn.Module:
    # A PeftModel's forward only passes its arguments on; the inner model's forward has the named parameters.
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
