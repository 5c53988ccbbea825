"""One packed forward pass of an unmodified model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crosspatch.models.blocks import cache_argument, decoder, find_blocks, hidden_of, text_config, with_hidden
from crosspatch.models.components import check_sites
from crosspatch.models.hooks import Edit, editing
from crosspatch.models.site import Site
from crosspatch.patching.two_stream.attention import PassAttention, attending
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing

# For each start block: the hidden states from which the new tokens' are copied (None: this pass's hidden states), and
# the indices to copy.
Joins = Mapping[int, tuple[Float[Tensor, "N D"] | None, Int[Tensor, " J"]]]


def packed_pass(
    model: nn.Module,
    packing: Packing,
    past: KeyValues,
    joins: Joins | None = None,
    edits: Mapping[Site, Edit] | None = None,
) -> Float[Tensor, "T D"]:
    """Run a pass, and return the last hidden states (after the final norm) of all its tokens.

    A token with start block l > 0 starts from another token's residual stream before block l, given by `joins`.
    Edits get the tokens computed so far, in packed order: [1, T, D]. The pass may have no token with start block 0.
    """
    # Check before the contexts below change the model: the first call traces an unmodified forward pass.
    check_sites(model, edits or {})
    base = decoder(model)
    config = text_config(model)
    with (
        attending(config, PassAttention(packing, past)),
        _joining(model, packing, joins or {}),
        editing(model, edits or {}),
    ):
        output = base(
            input_ids=packing.ids[None],
            position_ids=packing.positions[None],
            use_cache=True,
            **{cache_argument(base): _no_past()},
        )
    return output[0][0]


@contextmanager
def _joining(model: nn.Module, packing: Packing, joins: Joins) -> Iterator[None]:
    """Within the context, each block computes only the tokens whose start block it has reached."""
    blocks = find_blocks(model)
    whole = len(packing.tokens)
    counts = [packing.joined(layer) for layer in range(len(blocks))]
    if counts[0] == whole:
        yield
        return

    def narrow_at(layer: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            # A block cannot compute 0 tokens: before the first start block, it computes the first token's embedding.
            count = max(1, counts[layer])

            def narrowed(value: Any) -> Any:
                return _narrow(value, whole, count)

            # The residual stream has all tokens only before the first block; later blocks add tokens to it.
            if "hidden_states" in kwargs:
                stream = kwargs["hidden_states"]
                others = {key: narrowed(value) for key, value in kwargs.items() if key != "hidden_states"}
                return tuple(map(narrowed, args)), {"hidden_states": stream[:, :count], **others}
            stream, *rest = args
            return (stream[:, :count], *map(narrowed, rest)), {key: narrowed(value) for key, value in kwargs.items()}

        return hook

    def join_after(layer: int) -> Any:
        def hook(module: nn.Module, args: object, output: Tensor | tuple[Any, ...]) -> Tensor | tuple[Any, ...]:
            hidden = hidden_of(output)[:, : counts[layer]]
            stored, places = joins[layer + 1]
            source = hidden[0] if stored is None else stored.to(hidden)
            return with_hidden(output, torch.cat([hidden, source[places.to(hidden.device)][None]], dim=1))

        return hook

    handles = []
    try:
        for layer, block in enumerate(blocks):
            handles.append(block.register_forward_pre_hook(narrow_at(layer), with_kwargs=True))
            if layer + 1 in joins:
                handles.append(block.register_forward_hook(join_after(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _narrow(value: Any, whole: int, count: int) -> Any:
    """Slice an argument of a block (rotary angles, positions) from `whole` tokens to the first `count`."""
    if isinstance(value, Tensor):
        for dim, size in enumerate(value.shape):
            if size == whole:
                return value.narrow(dim, 0, count)
        return value
    if isinstance(value, tuple | list):
        return type(value)(_narrow(item, whole, count) for item in value)
    if isinstance(value, dict):
        return {key: _narrow(item, whole, count) for key, item in value.items()}
    return value


def _no_past() -> Any:
    """Return a Hugging Face cache that stores nothing, since `KeyValues` stores the keys and values."""
    from transformers import Cache

    class NoPast(Cache):  # type: ignore[misc]
        def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            return key_states, value_states

        def get_seq_length(self, *_: Any) -> int:
            return 0

        def get_query_offset(self, *_: Any) -> int:
            return 0

        def get_mask_sizes(self, query_length: int, *_: Any) -> tuple[int, int]:
            return query_length, 0

    return NoPast(layers=[])
