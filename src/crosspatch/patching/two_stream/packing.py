"""The tokens of a packed pass, their lanes, and the block from which each is computed."""

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

    It reads the keys and values of `lane`. A token that is `apart` reads those before its position and its own, and
    leaves none; any other token leaves its own in the lane, and reads all up to itself. `entry` is the block before
    which it joins the pass; 0 is the embedding.
    """

    id: int
    position: int
    lane: int
    entry: int = 0
    apart: bool = False


@dataclass(frozen=True)
class Packing:
    """T tokens in one sequence, in the order in which they join the pass."""

    tokens: Sequence[Token]
    device: torch.device

    def __post_init__(self) -> None:
        if self._entries != sorted(self._entries):
            raise ValueError(f"tokens must be sorted by their entry, got entries {self._entries}")

    @cached_property
    def ids(self) -> Int[Tensor, " T"]:
        """Token ids."""
        return self._tensor([token.id for token in self.tokens])

    @cached_property
    def positions(self) -> Int[Tensor, " T"]:
        """Positions in their texts."""
        return self._tensor([token.position for token in self.tokens])

    @cached_property
    def apart(self) -> Bool[Tensor, " T"]:
        """The tokens that leave no keys and values."""
        return torch.tensor([token.apart for token in self.tokens], device=self.device)

    @cached_property
    def lanes(self) -> Int[Tensor, " T"]:
        """Lanes of the tokens."""
        return self._tensor([token.lane for token in self.tokens])

    def on(self, device: torch.device) -> Packing:
        """The same tokens with tensors on another device, since blocks of one model may be on several."""
        return self if device == self.device else Packing(self.tokens, device)

    @cached_property
    def span(self) -> tuple[int, int]:
        """The first and the last lane in use."""
        lanes = [token.lane for token in self.tokens]
        return min(lanes), max(lanes)

    @cached_property
    def longest(self) -> int:
        """One more than the highest position."""
        return max(token.position for token in self.tokens) + 1

    @cached_property
    def slots(self) -> Int[Tensor, " T"]:
        """For each token its index among the queries of its lane: the tokens of the lane that joined before."""
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
        """The number of tokens that a block computes; `layer` = the number of blocks gives all tokens."""
        return bisect_right(self._entries, layer)

    def per_lane(self, joined: int) -> dict[int, int]:
        """The number of the first `joined` tokens in each lane."""
        return Counter(token.lane for token in self.tokens[:joined])

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)
