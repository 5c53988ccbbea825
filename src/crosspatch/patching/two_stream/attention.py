"""Attention of a packed pass, as Hugging Face's attention interface asks for it.

The mask comes as the rule from which the model would have built its own (causal, sliding, chunked), asked with true
positions: so windows hold for a model of any kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crosspatch.errors import UsageError
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing

NAME = "crosspatch_two_stream"
# Attention weights computed at once, in numbers: they stay in the processor's cache, and memory stays flat.
AT_ONCE = 4_000_000

Rule = Callable[[Any, Any, Tensor, Tensor], Tensor]


@dataclass
class PassAttention:
    """The attention of one pass of one model: T tokens, H heads, KV key-value heads, K wide."""

    packing: Packing
    past: KeyValues
    _allowed: dict[int, Bool[Tensor, "G W N"]] = field(default_factory=dict)

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
        """What each token reads: from its lane as far as the rule allows, and from itself."""
        packing, count = self.packing, query.shape[1]
        apart, lanes, slots = packing.apart[:count], packing.lanes[:count], packing.slots[:count]
        first, last = packing.span
        stays = (~apart).nonzero().squeeze(1)
        if len(stays):
            self.past.write(
                layer, key[:, stays], value[:, stays], lanes[stays], packing.positions[stays], packing.longest
            )
        keys, values = self.past.read(layer, first, last, packing.longest)
        allowed = self._allow(rule)
        # A token that stands apart also reads its own key and value, which no lane holds.
        own = _grouped(query, key).mul(key[:, None]).sum(-1).flatten(0, 1) * scaling
        own = torch.where(apart, _capped(own, softcap), torch.finfo(own.dtype).min)

        width = packing.width(count)
        if first == last:
            # All in one lane: the tokens are its queries, in their order.
            read = _read(query[None], keys, values, allowed[:, :count], own[None], value[None], scaling, softcap, sinks)
            return read[0].transpose(0, 1)
        where = (lanes - first, slots)
        groups = last - first + 1
        queries = query.new_zeros(groups, width, *query.transpose(0, 1).shape[1:])
        queries[where] = query.transpose(0, 1)
        owns = own.new_full((groups, width, own.shape[0]), torch.finfo(own.dtype).min)
        owns[where] = own.transpose(0, 1)
        own_values = value.new_zeros(groups, width, *value.transpose(0, 1).shape[1:])
        own_values[where] = value.transpose(0, 1)
        read = _read(
            queries.transpose(1, 2),
            keys,
            values,
            allowed[:, :width],
            owns.transpose(1, 2),
            own_values.transpose(1, 2),
            scaling,
            softcap,
            sinks,
        )
        return read.transpose(1, 2)[where]

    def _allow(self, rule: Rule) -> Bool[Tensor, "G W N"]:
        """Which positions of its lane each query may read; the same for all layers of one rule."""
        if id(rule) not in self._allowed:
            packing = self.packing
            first, last = packing.span
            there = torch.arange(packing.longest, device=packing.device)
            here = packing.positions[:, None]
            zero = torch.zeros((), dtype=torch.long, device=packing.device)
            may = rule(zero, zero, here, there[None]) & (there[None] <= here)
            # A token apart stands in the place of the lane's token at its position.
            may = may & ~(packing.apart[:, None] & (there[None] == here))
            if first == last:
                allowed = may[None]
            else:
                shape = (last - first + 1, packing.width(len(packing.tokens)), packing.longest)
                allowed = torch.zeros(shape, dtype=torch.bool, device=packing.device)
                allowed[packing.lanes - first, packing.slots] = may
            self._allowed[id(rule)] = allowed
        return self._allowed[id(rule)]


def _read(
    query: Float[Tensor, "G H Q K"],
    keys: Float[Tensor, "G KV N K"],
    values: Float[Tensor, "G KV N W"],
    allowed: Bool[Tensor, "G Q N"],
    own: Float[Tensor, "G H Q"],
    own_value: Float[Tensor, "G KV Q W"],
    scaling: float,
    softcap: float | None,
    sinks: Float[Tensor, " H"] | None,
) -> Float[Tensor, "G H Q W"]:
    """Softmax attention over a lane and one own position, a few queries at a time."""
    n_groups, n_heads, n_queries, _ = query.shape
    step = max(1, AT_ONCE // (n_groups * n_heads * keys.shape[2]))
    parts = []
    for start in range(0, n_queries, step):
        part = slice(start, start + step)
        q, mask = query[:, :, part], allowed[:, None, None, part]
        # Queries of all heads that share a key-value head, side by side: its keys are read once.
        grouped = q.reshape(n_groups, keys.shape[1], -1, q.shape[-1])
        scores = torch.matmul(grouped, keys.transpose(-1, -2)).mul(scaling)
        scores = _capped(scores, softcap).view(n_groups, keys.shape[1], -1, q.shape[2], keys.shape[2])
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).view(n_groups, n_heads, q.shape[2], -1)
        columns = [scores, own[:, :, part, None]]
        if sinks is not None:
            columns.append(sinks.to(scores).view(1, -1, 1, 1).expand(n_groups, -1, q.shape[2], 1))
        weights = torch.cat(columns, dim=-1).softmax(-1, dtype=torch.float32).to(q.dtype)
        lane_weights = weights[..., : keys.shape[2]].reshape(n_groups, keys.shape[1], -1, keys.shape[2])
        out = torch.matmul(lane_weights, values).view(n_groups, keys.shape[1], -1, q.shape[2], values.shape[-1])
        own_weights = weights[..., keys.shape[2]].view(n_groups, keys.shape[1], -1, q.shape[2], 1)
        out = out + own_weights * own_value[:, :, None, part]
        parts.append(out.view(n_groups, n_heads, q.shape[2], -1))
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _grouped(query: Float[Tensor, "H T K"], key: Float[Tensor, "KV T K"]) -> Float[Tensor, "KV R T K"]:
    """Query heads by the key-value head that they read."""
    return query.view(key.shape[0], -1, *query.shape[1:])


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
    """The attention function that Hugging Face models call; [1, H, T, K] in, [1, T, H, K] out."""
    if not callable(attention_mask):
        raise UsageError(f"{type(module).__name__} makes its attention mask by itself, so positions cannot be packed")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    read = _CURRENT.get().attend(layer, query[0], key[0], value[0], attention_mask, scaling, softcap, s_aux)
    return read[None], None


def _rule(*, mask_function: Rule, **_: Any) -> Rule:
    """In place of a mask: the rule it would have been made from."""
    return mask_function


@contextmanager
def attending(config: Any, attention: PassAttention) -> Iterator[None]:
    """Within the context models of this (text) configuration attend so; afterwards as before."""
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
