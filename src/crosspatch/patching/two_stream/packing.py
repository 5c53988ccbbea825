"""The tokens of a packed pass, with the cache slot and the start block of each."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Token:
    """One position to compute.

    It attends to the cache slot `lane`. A token that is `apart` (under a transient patch, or read alone) attends to the
    earlier positions of the slot and to its own key and value, which are not cached; any other token is cached before
    it attends. `entry` is the start block: the first block that computes the token (0: from the embedding on).
    """

    id: int
    position: int
    lane: int
    entry: int = 0
    apart: bool = False


@dataclass(frozen=True)
class Packing:
    """T tokens in one sequence, sorted by their start block."""

    tokens: Sequence[Token]
    device: torch.device

    def __post_init__(self) -> None:
        if self._entries != sorted(self._entries):
            raise ValueError(f"tokens must be sorted by their start block, got {self._entries}")

    @cached_property
    def ids(self) -> Int[Tensor, " T"]:
        """The token ids."""
        return self._tensor([token.id for token in self.tokens])

    @cached_property
    def positions(self) -> Int[Tensor, " T"]:
        """The tokens' positions in their texts."""
        return self._tensor([token.position for token in self.tokens])

    @cached_property
    def apart(self) -> Bool[Tensor, " T"]:
        """A mask of the tokens apart, whose keys and values are not cached."""
        return torch.tensor([token.apart for token in self.tokens], device=self.device)

    @cached_property
    def lanes(self) -> Int[Tensor, " T"]:
        """The tokens' cache slots."""
        return self._tensor([token.lane for token in self.tokens])

    def on(self, device: torch.device) -> Packing:
        """Return the same tokens with tensors on another device: a model's blocks may be on several devices."""
        return self if device == self.device else Packing(self.tokens, device)

    @cached_property
    def span(self) -> tuple[int, int]:
        """The first and the last cache slot in use."""
        lanes = [token.lane for token in self.tokens]
        return min(lanes), max(lanes)

    @cached_property
    def longest(self) -> int:
        """One more than the highest position."""
        return max(token.position for token in self.tokens) + 1

    @cached_property
    def slots(self) -> Int[Tensor, " T"]:
        """Each token's index among the queries of its cache slot: the number of earlier tokens with the same slot."""
        seen: Counter[int] = Counter()
        slots = []
        for token in self.tokens:
            slots.append(seen[token.lane])
            seen[token.lane] += 1
        return self._tensor(slots)

    @cached_property
    def _entries(self) -> list[int]:
        return [token.entry for token in self.tokens]

    def joined(self, layer: int) -> int:
        """Return the number of tokens that block `layer` computes; if `layer` is the number of blocks, all tokens."""
        return bisect_right(self._entries, layer)

    def per_lane(self, joined: int) -> dict[int, int]:
        """Count the first `joined` tokens by cache slot."""
        return Counter(token.lane for token in self.tokens[:joined])

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)
