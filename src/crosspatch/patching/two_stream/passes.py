"""Packed forward passes of an unmodified model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crosspatch.models.blocks import cache_argument, decoder, find_blocks, hidden_of, text_config, with_hidden
from crosspatch.models.fast_linear import fast_linear
from crosspatch.models.hooks import Edit, editing
from crosspatch.models.site import Site
from crosspatch.patching.two_stream.attention import CURRENT, PassAttention, attending
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing

# Returns the hidden states of the tokens that start at a block, given those of the tokens before it.
Join = Callable[[Float[Tensor, "T D"]], Float[Tensor, "J D"] | None]


def starting(states: Float[Tensor, "J D"]) -> Join:
    """Return a join of tokens whose residual streams are known before the pass."""
    return lambda hidden: states


class PackedModel:
    """A model whose hooks are set up for packed passes; `packed_model` makes one."""

    def __init__(self, model: nn.Module, past: KeyValues) -> None:
        self.model, self.past = model, past
        self._decoder, self._blocks = decoder(model), find_blocks(model)
        self._options = {"use_cache": True, cache_argument(self._decoder): _no_past()}
        # Of the current pass: the number of tokens that each block computes, and what happens at blocks and sites.
        self._whole = 0
        self._counts: list[int] = []
        self._joins: Mapping[int, Join] = {}
        self._edits: Mapping[Site, Edit] = {}

    def run(
        self, packing: Packing, joins: Mapping[int, Join] | None = None, edits: Mapping[Site, Edit] | None = None
    ) -> Float[Tensor, "T D"]:
        """Run a pass, and return the last hidden states (after the final norm) of all its tokens.

        `joins` returns for each start block l > 0 the tokens' residual streams before block l; it is called after block
        l - 1 in any case. Edits get the tokens computed so far, in packed order: [1, T, D]. The pass may have no token
        with start block 0.
        """
        self._whole, self._joins, self._edits = len(packing), joins or {}, edits or {}
        self._counts = [packing.joined(layer) for layer in range(len(self._blocks))]
        current = CURRENT.set(PassAttention(packing, self.past))
        try:
            ids, positions = packing.tensor(packing.ids), packing.tensor(packing.positions)
            output = self._decoder(input_ids=ids[None], position_ids=positions[None], **self._options)
        finally:
            CURRENT.reset(current)
            self._counts, self._joins, self._edits = [], {}, {}
        hidden: Tensor = output[0][0]
        return hidden

    def edit(self, site: Site) -> Edit:
        """Return the hook of a site: the edit of the current pass, if there is one."""

        def edit(activation: Tensor) -> Tensor | None:
            current = self._edits.get(site)
            return None if current is None else current(activation)

        return edit

    def narrow(self, layer: int) -> Callable[..., Any]:
        """Return the hook before a block: it computes only the tokens whose start block has been reached."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self._counts:
                # Another packed model's pass: the source and the target may be one model.
                return None
            whole = self._whole
            # A block cannot compute 0 tokens: before the first start block, it computes the first token's embedding.
            count = max(1, self._counts[layer])
            if count == whole:
                return None
            # The residual stream has all tokens only before the first block; later blocks add tokens to it.
            if "hidden_states" in kwargs:
                stream = kwargs["hidden_states"][:, :count]
                others = {name: value for name, value in kwargs.items() if name != "hidden_states"}
                return _narrow(args, whole, count), {"hidden_states": stream, **_narrow(others, whole, count)}
            return (args[0][:, :count], *_narrow(args[1:], whole, count)), _narrow(kwargs, whole, count)

        return hook

    def join(self, layer: int) -> Callable[..., Any]:
        """Return the hook after a block: it appends the tokens that start at the next one."""

        def hook(module: nn.Module, args: object, output: Tensor | tuple[Any, ...]) -> Tensor | tuple[Any, ...] | None:
            if (join := self._joins.get(layer + 1)) is None:
                return None
            hidden = hidden_of(output)[:, : self._counts[layer]]
            joining = join(hidden[0])
            return (
                None if joining is None else with_hidden(output, torch.cat([hidden, joining[None].to(hidden)], dim=1))
            )

        return hook


@contextmanager
def packed_model(model: nn.Module, past: KeyValues, sites: Iterable[Site] = ()) -> Iterator[PackedModel]:
    """Within the context, the model runs packed passes; their edits may be at these sites."""
    packed = PackedModel(model, past)
    with ExitStack() as stack:
        # The first call for a model traces an unmodified forward pass.
        stack.enter_context(editing(model, {site: packed.edit(site) for site in sites}))
        stack.enter_context(attending(text_config(model)))
        stack.enter_context(fast_linear(model))
        for layer, block in enumerate(find_blocks(model)):
            for handle in (
                block.register_forward_pre_hook(packed.narrow(layer), with_kwargs=True, prepend=True),
                # Before the edits, which see the tokens that have joined.
                block.register_forward_hook(packed.join(layer), prepend=True),
            ):
                stack.callback(handle.remove)
        yield packed


def packed_pass(
    model: nn.Module,
    packing: Packing,
    past: KeyValues,
    joins: Mapping[int, Join] | None = None,
    edits: Mapping[Site, Edit] | None = None,
) -> Float[Tensor, "T D"]:
    """Run one packed pass; see `PackedModel.run`."""
    with packed_model(model, past, edits or ()) as packed:
        return packed.run(packing, joins, edits)


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
