"""The attention function of a packed pass, called through Hugging Face's attention interface.

Instead of a mask it gets the model's mask function (causal, sliding, chunked), and calls it with the tokens' positions
in their texts, so attention windows are right in every model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crosspatch.errors import UsageError
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing

NAME = "crosspatch_two_stream"
# Maximum number of attention weights computed at once, so that they fit the processor's cache.
AT_ONCE = 4_000_000

Rule = Callable[[Any, Any, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Grid:
    """The first tokens of a pass in a grid of queries [G, Q], on one device.

    `tokens` is the token at each place, and `places` the place of each token; both are None if there is one grid row.
    """

    rows: int
    columns: int
    tokens: Int[Tensor, " GQ"] | None
    places: Int[Tensor, " T"] | None
    slots: slice | Int[Tensor, " G"]


@dataclass
class PassAttention:
    """The attention of one pass of one model.

    Shapes: T tokens, H heads, KV key-value heads, head width K, value width W; N cached positions, G grid rows of Q
    queries. A model's blocks may be on several devices, so tensors are created on the device of a block's queries.
    """

    packing: Packing
    past: KeyValues
    _grids: dict[tuple[int, torch.device], _Grid] = field(default_factory=dict)
    _masks: dict[tuple[Rule, torch.dtype, torch.device], Tensor] = field(default_factory=dict)
    _cached: dict[tuple[int, torch.device], tuple[Any, Tensor, Tensor]] = field(default_factory=dict)

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "H T K"],
        key: Float[Tensor, "KV T K"],
        value: Float[Tensor, "KV T W"],
        rule: Rule,
        scaling: float,
        softcap: float | None = None,
        sinks: Float[Tensor, " H"] | None = None,
    ) -> Float[Tensor, "T H W"]:
        """Compute each token's attention output: it attends to the positions that `rule` allows, and to itself."""
        count, device, longest = query.shape[1], query.device, self.packing.longest
        kept, lanes, positions = self._to_cache(count, device)
        if len(lanes):
            self.past.write(layer, key[:, kept], value[:, kept], lanes, positions, longest)
        grid = self._grid(count, device)
        keys, values = self.past.read(layer, grid.slots, longest)
        apart = self._any_apart
        own = None
        if apart:
            own = (query.unflatten(0, (key.shape[0], -1)) * key[:, None]).sum(-1).flatten(0, 1) * scaling
            own = _capped(own, softcap)
            own = _spread(own[..., None], grid)
        mask = self._mask(rule, query.dtype, device)[: grid.rows, : grid.columns]
        read, weights = _read(_spread(query, grid), keys, values, mask, own, scaling, softcap, sinks)
        gathered = _gathered(read, grid)
        if weights is not None:
            # A token apart also attends to its own value, which is not in the cache.
            of_own = _gathered(weights[..., None], grid)
            repeated = (
                value
                if value.shape[0] == query.shape[0]
                else value.repeat_interleave(query.shape[0] // value.shape[0], dim=0)
            )
            gathered = torch.addcmul(gathered, of_own, repeated.transpose(0, 1))
        return gathered

    @cached_property
    def _any_apart(self) -> bool:
        return bool(self.packing.apart.any())

    def _to_cache(self, count: int, device: torch.device) -> tuple[Any, Tensor, Tensor]:
        """Return which of the first tokens are cached (a slice, to avoid a copy, if possible), and where."""
        if (count, device) not in self._cached:
            packing = self.packing
            kept = np.flatnonzero(~packing.apart[:count])
            consecutive = len(kept) == 0 or kept[-1] - kept[0] == len(kept) - 1
            index: Any = slice(*(kept[[0, -1]] + [0, 1]).tolist()) if consecutive and len(kept) else kept
            lanes, positions = (torch.from_numpy(of[kept]).to(device) for of in (packing.lanes, packing.positions))
            index = index if consecutive else torch.from_numpy(kept).to(device)
            self._cached[count, device] = index, lanes, positions
        return self._cached[count, device]

    def _grid(self, count: int, device: torch.device) -> _Grid:
        if (count, device) not in self._grids:
            layout = self.packing.layout
            rows, columns = int(layout.rows[count - 1]), int(layout.columns[count - 1])
            if rows <= layout.consecutive:
                first = int(layout.lanes[0])
                slots: Any = slice(first, first + rows)
            else:
                slots = torch.from_numpy(layout.lanes[:rows]).to(device)
            tokens = places = None
            if rows > 1:
                tokens = layout.table[:rows, :columns].clamp(max=count - 1).flatten().to(device)
                places = torch.from_numpy(layout.row[:count] * columns + layout.column[:count]).to(device)
            self._grids[count, device] = _Grid(rows, columns, tokens, places, slots)
        return self._grids[count, device]

    def _mask(self, rule: Rule, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "G Q N"]:
        """Build the mask that is added to the attention scores, 0 where a token may attend.

        With tokens apart there is one more column, for each token's own key.
        """
        if (rule, dtype, device) not in self._masks:
            packing = self.packing
            # A rule may contain tensors on the first block's device.
            there = torch.arange(packing.longest, device=packing.device)[None]
            here, apart = (packing.tensor(of)[:, None] for of in (packing.positions, packing.apart))
            zero = torch.zeros((), dtype=torch.long, device=packing.device)
            # A token apart replaces the cached token at its position.
            may = rule(zero, zero, here, there) & (there <= here) & ~(apart & (there == here))
            if self._any_apart:
                may = torch.cat([may, apart], dim=1)
            mask = torch.zeros(may.shape, dtype=dtype, device=packing.device)
            mask = mask.masked_fill(~may, torch.finfo(dtype).min).to(device)
            table = packing.layout.table
            self._masks[rule, dtype, device] = mask[None] if len(table) == 1 else mask[table.to(device)]
        return self._masks[rule, dtype, device]


def _spread(of_tokens: Float[Tensor, "H T K"], grid: _Grid) -> Float[Tensor, "G H Q K"]:
    """Arrange tokens in the grid; a place without a token has any token's values, which are not read."""
    if grid.tokens is None:
        return of_tokens[None]
    return of_tokens.index_select(1, grid.tokens).unflatten(1, (grid.rows, grid.columns)).transpose(0, 1)


def _gathered(by_row: Float[Tensor, "G H Q K"], grid: _Grid) -> Float[Tensor, "T H K"]:
    """Invert `_spread`; tokens are the first dimension of the result."""
    if grid.places is None:
        return by_row[0].transpose(0, 1)
    return by_row.transpose(1, 2).flatten(0, 1).index_select(0, grid.places)


def _read(
    query: Float[Tensor, "G H Q K"],
    keys: Float[Tensor, "G KV N K"],
    values: Float[Tensor, "G KV N W"],
    mask: Float[Tensor, "G Q M"],
    own: Float[Tensor, "G H Q 1"] | None,
    scaling: float,
    softcap: float | None,
    sinks: Float[Tensor, " H"] | None,
) -> tuple[Float[Tensor, "G H Q W"], Float[Tensor, "G H Q"] | None]:
    """Attend to cache slots, a few queries at a time; also return the attention weight of each query's own key."""
    rows, heads, queries, _ = query.shape
    length = keys.shape[2]
    step = max(1, AT_ONCE // (rows * heads * length))
    reads, owns = [], []
    for start in range(0, queries, step):
        part = slice(start, start + step)
        size = min(step, queries - start)
        # Queries of all heads that share a key-value head are adjacent, so that its keys are read once.
        grouped = query[:, :, part].reshape(rows, keys.shape[1], -1, query.shape[-1])
        scores = _capped(torch.matmul(grouped, keys.transpose(-1, -2)).mul_(scaling), softcap).view(
            rows, heads, size, length
        )
        if own is not None:
            scores = torch.cat([scores, own[:, :, part]], dim=-1)
        scores = scores.add_(mask[:, None, part])
        if sinks is not None:
            scores = torch.cat([scores, sinks.to(scores).view(1, -1, 1, 1).expand(rows, -1, size, 1)], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        if own is not None:
            owns.append(weights[..., length])
        on_slot = weights[..., :length].reshape(rows, keys.shape[1], -1, length)
        reads.append(torch.matmul(on_slot, values).view(rows, heads, size, -1))
    return _joined_up(reads), None if own is None else _joined_up(owns)


def _joined_up(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


CURRENT: ContextVar[PassAttention] = ContextVar("CURRENT")


def _forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Rule | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute attention when a Hugging Face model calls it: from [1, H, T, K] to [1, T, H, K]."""
    if not callable(attention_mask):
        raise UsageError(f"{type(module).__name__} builds its own attention mask, so positions cannot be packed")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    read = CURRENT.get().attend(layer, query[0], key[0], value[0], attention_mask, scaling, softcap, s_aux)
    return read[None], None


def _rule(*, mask_function: Rule, **_: Any) -> Rule:
    """Return the mask function itself instead of a mask."""
    return mask_function


@contextmanager
def attending(config: Any) -> Iterator[None]:
    """Within the context, models with this (text) configuration use the attention of the `CURRENT` pass."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, _rule)
    before = config._attn_implementation
    try:
        config._attn_implementation = NAME
        yield
    finally:
        config._attn_implementation = before
