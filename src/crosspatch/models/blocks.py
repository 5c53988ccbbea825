"""The blocks of a decoder, and reading and editing what they put out.

Names follow TransformerLens: `resid_post` of layer l is the output of block l, shaped [B, T, D].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from crosspatch.errors import UsageError

Edit = Callable[[Tensor], Tensor]


def find_blocks(model: nn.Module) -> nn.ModuleList:
    """The model's decoder blocks, first to last.

    They are the list of modules that is as long as the configuration says the model is deep. Raises UsageError
    where no list or more than one fits.
    """
    depth = text_config(model).num_hidden_layers
    fitting = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    # Lists inside a block (experts, say) may have the same length: blocks are not inside one another.
    inner = {id(m) for lst in fitting for m in lst.modules() if m is not lst}
    outer = [m for m in fitting if id(m) not in inner]
    if len(outer) != 1:
        raise UsageError(f"{type(model).__name__} has {len(outer)} lists of {depth} blocks, expected one")
    return outer[0]


def text_config(model: nn.Module) -> Any:
    """The configuration of the language model proper, also inside a multimodal one."""
    return model.config.get_text_config(decoder=True)  # type: ignore[operator,union-attr]


def hidden_of(output: Tensor | tuple[Any, ...]) -> Tensor:
    """The hidden state [B, T, D] in what a block returns: some return it bare, some first in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def with_hidden(output: Tensor | tuple[Any, ...], hidden: Tensor) -> Tensor | tuple[Any, ...]:
    """What a block returned, with another hidden state, in the form in which it came."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


@contextmanager
def reading(model: nn.Module, layers: Iterable[int]) -> Iterator[dict[int, Tensor]]:
    """Within the context each forward pass leaves `resid_post` [B, T, D] of the layers in the mapping."""
    read: dict[int, Tensor] = {}

    def read_at(layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, output: Tensor | tuple[Any, ...]) -> None:
            read[layer] = hidden_of(output)

        return hook

    with _hooks(model, {layer: read_at(layer) for layer in layers}):
        yield read


@contextmanager
def editing(model: nn.Module, edits: Mapping[int, Edit]) -> Iterator[None]:
    """Within the context `resid_post` of each layer is what its edit makes of it; later blocks read the result.

    An edit gets the hidden state [B, T, D] and returns one of the same shape, leaving its argument as it is.
    """

    def edit_at(edit: Edit) -> Callable[..., Tensor | tuple[Any, ...]]:
        def hook(module: nn.Module, args: object, output: Tensor | tuple[Any, ...]) -> Tensor | tuple[Any, ...]:
            return with_hidden(output, edit(hidden_of(output)))

        return hook

    with _hooks(model, {layer: edit_at(edit) for layer, edit in edits.items()}):
        yield


@contextmanager
def _hooks(model: nn.Module, hooks: Mapping[int, Callable[..., Any]]) -> Iterator[None]:
    blocks = find_blocks(model)
    handles = []
    try:
        for layer, hook in hooks.items():
            handles.append(blocks[layer].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()
