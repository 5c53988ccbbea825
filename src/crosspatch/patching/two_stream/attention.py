"""The attention function of a packed pass, called through Hugging Face's attention interface.

Instead of a mask it gets the model's mask function (causal, sliding, chunked), and calls it with the tokens' positions
in their texts, so attention windows are right in every model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crosspatch.errors import UsageError
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing

NAME = "crosspatch_two_stream"
# Maximum number of attention weights computed at once, so that they fit the processor's cache.
AT_ONCE = 4_000_000
# The estimated cost of one more matrix product, for a cache slot that is read alone, as a number of queries.
LANE_BY_ITSELF = 20

Index = slice | Tensor
Rule = Callable[[Any, Any, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Group:
    """Queries computed in one matrix product: `tokens` of the pass, which attend to cache slots `first` to `last`.

    `places` are their indices in a grid with `width` queries for each slot; None if there is one slot.
    """

    tokens: Index
    first: int
    last: int
    places: Int[Tensor, " T"] | None
    width: int


@dataclass(frozen=True)
class _Joined:
    """The cache slots and groups of the tokens that a block computes.

    `stays` and `apart` are the indices of cached tokens and of tokens apart: slices, to avoid a copy, if they are
    consecutive.
    """

    stays: Index
    apart: Index
    any_apart: bool
    lanes: Int[Tensor, " S"]
    positions: Int[Tensor, " S"]
    groups: list[_Group]
    # The index of each token in the concatenation of the groups.
    order: Int[Tensor, " T"]


@dataclass
class PassAttention:
    """The attention of one pass of one model.

    Shapes: T tokens, H heads, KV key-value heads, head width K, value width W. A model's blocks may be on several
    devices, so a block's tensors are created on the device of its queries.
    """

    packing: Packing
    past: KeyValues
    _joined: dict[tuple[int, torch.device], _Joined] = field(default_factory=dict)
    _masks: dict[tuple[Rule, torch.dtype], Float[Tensor, "T N"]] = field(default_factory=dict)
    _group_masks: dict[tuple[Rule, torch.dtype, int, torch.device], list[Float[Tensor, "G Q N"]]] = field(
        default_factory=dict
    )

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
        longest = self.packing.longest
        joined = self._where(query.shape[1], query.device)
        if len(joined.lanes):
            kept = key[:, joined.stays], value[:, joined.stays]
            self.past.write(layer, *kept, joined.lanes, joined.positions, longest)
        own = self._own(query, key, joined, scaling, softcap) if joined.any_apart else None
        reads, owns = [], []
        for group, mask in zip(joined.groups, self._masks_of(rule, query), strict=True):
            keys, values = self.past.read(layer, group.first, group.last, longest)
            queries = _spread(query[:, group.tokens], group)
            scores = None if own is None else _spread(own[:, group.tokens, None], group).squeeze(-1)
            read, own_weights = _read(queries, keys, values, mask, scores, scaling, softcap, sinks)
            reads.append(_gathered(read, group))
            if own_weights is not None:
                owns.append(_gathered(own_weights[..., None], group))
        gathered = _scattered(reads, joined)
        if owns:
            # A token apart also attends to its own value, which is not in the cache.
            of_own = _scattered(owns, joined)[joined.apart]
            repeated = value[:, joined.apart].repeat_interleave(query.shape[0] // value.shape[0], dim=0)
            gathered[joined.apart] += of_own * repeated.transpose(0, 1)
        return gathered

    def _own(
        self,
        query: Float[Tensor, "H T K"],
        key: Float[Tensor, "KV T K"],
        joined: _Joined,
        scaling: float,
        softcap: float | None,
    ) -> Float[Tensor, "H T"]:
        """Compute the attention score of each token apart for its own key, which is not in the cache."""
        grouped = query[:, joined.apart].unflatten(0, (key.shape[0], -1))
        own = query.new_full(query.shape[:2], torch.finfo(query.dtype).min)
        own[:, joined.apart] = _capped((grouped * key[:, None, joined.apart]).sum(-1) * scaling, softcap).flatten(0, 1)
        return own

    def _where(self, count: int, device: torch.device) -> _Joined:
        if (count, device) not in self._joined:
            packing = self.packing.on(device)
            stays, apart = ((packing.apart[:count] == which).nonzero().squeeze(1) for which in (False, True))
            groups = _groups(packing, count)
            everything = torch.arange(count, device=packing.device)
            self._joined[count, device] = _Joined(
                _index(stays),
                _index(apart),
                len(apart) > 0,
                packing.lanes[stays],
                packing.positions[stays],
                groups,
                torch.cat([everything[group.tokens] for group in groups]).argsort(),
            )
        return self._joined[count, device]

    def _masks_of(self, rule: Rule, query: Float[Tensor, "H T K"]) -> list[Float[Tensor, "G Q N"]]:
        """Return the mask of each group; layers with the same rule, device and number of tokens share it."""
        count = query.shape[1]
        key = rule, query.dtype, count, query.device
        if key not in self._group_masks:
            # A rule may contain tensors on the first block's device, so the mask is built there.
            mask = self._mask(rule, query.dtype)[None, :count].to(query.device)
            groups = self._where(count, query.device).groups
            self._group_masks[key] = [_spread(mask[:, group.tokens], group).squeeze(1) for group in groups]
        return self._group_masks[key]

    def _mask(self, rule: Rule, dtype: torch.dtype) -> Float[Tensor, "T N"]:
        """Build the mask that is added to the attention scores: 0 where a token may attend."""
        if (rule, dtype) not in self._masks:
            packing = self.packing
            there = torch.arange(packing.longest, device=packing.device)[None]
            here = packing.positions[:, None]
            zero = torch.zeros((), dtype=torch.long, device=packing.device)
            # A token apart replaces the cached token at its position.
            may = rule(zero, zero, here, there) & (there <= here) & ~(packing.apart[:, None] & (there == here))
            mask = torch.zeros(may.shape, dtype=dtype, device=packing.device)
            self._masks[rule, dtype] = mask.masked_fill(~may, torch.finfo(dtype).min)
        return self._masks[rule, dtype]


def _groups(packing: Packing, count: int) -> list[_Group]:
    """Group the first `count` tokens so that little of the matrix products is padding.

    Up to a common width, the queries of all cache slots are computed together; the remaining ones slot by slot.
    """
    first, last = packing.span
    everything = slice(0, count)
    if first == last:
        return [_Group(everything, first, last, None, count)]
    per_lane = packing.per_lane(count)
    width = _common_width(list(per_lane.values()), last - first + 1)
    places = (packing.lanes[:count] - first) * width + packing.slots[:count]
    if width >= max(per_lane.values()):
        return [_Group(everything, first, last, places, width)]
    common = (packing.slots[:count] < width).nonzero().squeeze(1)
    groups = [_Group(common, first, last, places[common], width)]
    for lane, queries in per_lane.items():
        if queries > width:
            rest = ((packing.lanes[:count] == lane) & (packing.slots[:count] >= width)).nonzero().squeeze(1)
            groups.append(_Group(_index(rest), lane, lane, None, queries - width))
    return groups


def _common_width(per_lane: list[int], lanes: int) -> int:
    """Choose the number of queries of each cache slot that are computed together, for the least work."""

    def work(width: int) -> int:
        left = [queries - width for queries in per_lane if queries > width]
        return lanes * width + sum(left) + LANE_BY_ITSELF * len(left)

    return min(set(per_lane), key=work)


def _index(places: Int[Tensor, " P"]) -> Index:
    """Return the indices as a slice if they are consecutive, else unchanged."""
    if len(places) and int(places[-1] - places[0]) == len(places) - 1:
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


def _spread(of_tokens: Float[Tensor, "H T K"], group: _Group) -> Tensor:
    """Arrange a group's tokens by cache slot, [G, H, Q, K]; slots with fewer queries are padded with zeros."""
    if group.places is None:
        return of_tokens[None]
    heads, _, width = of_tokens.shape
    lanes = group.last - group.first + 1
    spread = of_tokens.new_zeros(lanes * group.width, heads, width)
    spread = spread.index_copy(0, group.places, of_tokens.transpose(0, 1))
    return spread.view(lanes, group.width, heads, width).transpose(1, 2)


def _gathered(by_lane: Float[Tensor, "G H Q K"], group: _Group) -> Float[Tensor, "T H K"]:
    """Invert `_spread`; tokens are the first dimension of the result."""
    if group.places is None:
        return by_lane[0].transpose(0, 1)
    return by_lane.transpose(1, 2).flatten(0, 1).index_select(0, group.places)


def _scattered(of_groups: list[Tensor], joined: _Joined) -> Float[Tensor, "T H K"]:
    """Concatenate the groups' tensors, and sort the tokens into the order of the pass."""
    if len(of_groups) == 1:
        return of_groups[0]
    return torch.cat(of_groups).index_select(0, joined.order)


def _read(
    query: Float[Tensor, "G H Q K"],
    keys: Float[Tensor, "G KV N K"],
    values: Float[Tensor, "G KV N W"],
    mask: Float[Tensor, "G Q N"],
    own: Float[Tensor, "G H Q"] | None,
    scaling: float,
    softcap: float | None,
    sinks: Float[Tensor, " H"] | None,
) -> tuple[Float[Tensor, "G H Q W"], Float[Tensor, "G H Q"] | None]:
    """Attend to cache slots, a few queries at a time; also return the attention weight of each query's own key."""
    lanes, heads, queries, _ = query.shape
    length = keys.shape[2]
    step = max(1, AT_ONCE // (lanes * heads * length))
    reads, owns = [], []
    for start in range(0, queries, step):
        part = slice(start, start + step)
        size = min(step, queries - start)
        # Queries of all heads that share a key-value head are adjacent, so that its keys are read once.
        grouped = query[:, :, part].reshape(lanes, keys.shape[1], -1, query.shape[-1])
        scores = _capped(torch.matmul(grouped, keys.transpose(-1, -2)).mul_(scaling), softcap)
        scores = scores.view(lanes, heads, size, length).add_(mask[:, None, part])
        more = [] if own is None else [own[:, :, part, None]]
        if sinks is not None:
            more.append(sinks.to(scores).view(1, -1, 1, 1).expand(lanes, -1, size, 1))
        weights = torch.cat([scores, *more], dim=-1) if more else scores
        weights = weights.softmax(-1, dtype=torch.float32).to(query.dtype)
        if own is not None:
            owns.append(weights[..., length])
        on_lane = weights[..., :length].reshape(lanes, keys.shape[1], -1, length)
        reads.append(torch.matmul(on_lane, values).view(lanes, heads, size, -1))
    return _joined_up(reads), None if own is None else _joined_up(owns)


def _joined_up(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


_CURRENT: ContextVar[PassAttention] = ContextVar("_CURRENT")


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
    read = _CURRENT.get().attend(layer, query[0], key[0], value[0], attention_mask, scaling, softcap, s_aux)
    return read[None], None


def _rule(*, mask_function: Rule, **_: Any) -> Rule:
    """Return the mask function itself instead of a mask."""
    return mask_function


@contextmanager
def attending(config: Any, attention: PassAttention) -> Iterator[None]:
    """Within the context, models with this (text) configuration use this attention function."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, _rule)
    before = config._attn_implementation
    current = _CURRENT.set(attention)
    try:
        config._attn_implementation = NAME
        yield
    finally:
        config._attn_implementation = before
        _CURRENT.reset(current)
