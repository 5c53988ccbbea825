"""The blocks of a decoder, the hidden states [B, T, D] that go into them and come out, and arguments by their names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from crosspatch.errors import UsageError

# The name of each model's list of blocks. A name stays valid when an adapter replaces modules.
_found: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def find_blocks(model: nn.Module) -> nn.ModuleList:
    """The model's decoder blocks, first to last; the search runs once for each model.

    They are the one list of `num_hidden_layers` modules in the decoder. Raises UsageError where no list or more than
    one fits.
    """
    blocks: nn.ModuleList = model.get_submodule(name_of_blocks(model))  # type: ignore[assignment]
    return blocks


def name_of_blocks(model: nn.Module) -> str:
    """The name of the list of blocks in the model. Raises UsageError as `find_blocks` does."""
    if model not in _found:
        depth, inside = text_config(model).num_hidden_layers, set(decoder(model).modules())
        lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
        fitting = {name: m for name, m in lists.items() if len(m) == depth and m in inside}
        # Lists inside a block (experts, say) may have the same length: blocks are not inside one another.
        inner = {id(m) for lst in fitting.values() for m in lst.modules() if m is not lst}
        outer = [name for name, m in fitting.items() if id(m) not in inner]
        if len(outer) != 1:
            raise UsageError(f"{type(model).__name__} has {len(outer)} lists of {depth} blocks, expected one")
        _found[model] = outer[0]
    return _found[model]


def decoder(model: nn.Module) -> nn.Module:
    """The part of a model that turns token ids into last hidden states [B, T, D]; image encoders are outside it."""
    if text_config(model) is model.config:
        return getattr(model, "base_model", model)
    return model.get_decoder()  # type: ignore[operator]


def text_config(model: nn.Module) -> Any:
    """The configuration of the language model proper, also inside a multimodal one."""
    return model.config.get_text_config(decoder=True)  # type: ignore[operator,union-attr]


def hidden_into(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The hidden state [B, T, D] that a block is called with: first by position, or by its name."""
    return args[0] if args else kwargs["hidden_states"]


def hidden_of(output: Tensor | tuple[Any, ...]) -> Tensor:
    """The hidden state [B, T, D] that a block or its part returns, by itself or first in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def with_hidden(output: Tensor | tuple[Any, ...], hidden: Tensor) -> Tensor | tuple[Any, ...]:
    """What a block returned, with another hidden state, in the form in which it came."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def cache_argument(model: nn.Module) -> str:
    """The forward argument for keys and values: `cache` in newer versions of transformers, `past_key_values` before."""
    # Of its class: libraries that spread a model over devices put another `forward` on the object.
    return "cache" if "cache" in inspect.signature(type(_unwrapped(model)).forward).parameters else "past_key_values"


def keeps_logits(model: nn.Module) -> bool:
    """Whether the model can be asked for the logits of the last positions alone (`logits_to_keep`)."""
    return "logits_to_keep" in inspect.signature(_unwrapped(model).forward).parameters


def _unwrapped(model: nn.Module) -> nn.Module:
    # The forward of a PeftModel passes its arguments on to the model inside, which has the signature.
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
