"""The tokens of a packed pass, with the cache slot and the start block of each, and their layout for attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

Whole = NDArray[np.int64]
# The estimated cost of reading a cache slot once more, as a number of queries.
SLOT_BY_ITSELF = 20


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
    """T tokens in one sequence, sorted by their start block, as arrays of the fields of `Token`."""

    ids: Whole
    positions: Whole
    lanes: Whole
    entries: Whole
    apart: NDArray[np.bool_]
    device: torch.device

    def __post_init__(self) -> None:
        if (np.diff(self.entries) < 0).any():
            raise ValueError(f"tokens must be sorted by their start block, got {self.entries.tolist()}")

    @classmethod
    def of(cls, tokens: Sequence[Token], device: torch.device) -> Packing:
        """Pack tokens one by one."""
        rows = [(t.id, t.position, t.lane, t.entry, t.apart) for t in tokens]
        ids, positions, lanes, entries, apart = np.array(rows, np.int64).T
        return cls(ids, positions, lanes, entries, apart.astype(bool), device)

    @classmethod
    def of_text(cls, ids: Sequence[int], lane: int, device: torch.device, start: int = 0) -> Packing:
        """Pack consecutive tokens of a text, from position `start` on, to be cached in a slot."""
        none = np.zeros(len(ids), np.int64)
        return cls(np.array(ids), start + np.arange(len(ids)), none + lane, none, none.astype(bool), device)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def longest(self) -> int:
        """One more than the highest position."""
        return int(self.positions.max()) + 1

    def joined(self, layer: int) -> int:
        """Return the number of tokens that block `layer` computes; if `layer` is the number of blocks, all tokens."""
        return int(np.searchsorted(self.entries, layer, side="right"))

    def tensor(self, values: NDArray[np.generic]) -> Tensor:
        """Return an array as a tensor on the device of the pass."""
        return torch.from_numpy(values).to(self.device)

    @cached_property
    def layout(self) -> Layout:
        """The arrangement of the tokens in a grid of queries."""
        return Layout.of(self.lanes)


@dataclass(frozen=True)
class Layout:
    """Queries in a grid [G, Q]: each grid row reads one cache slot; a slot with many queries has several grid rows.

    Rows and columns are in the order of the tokens, so that the first tokens fill the first rows and columns.
    """

    row: Whole
    column: Whole
    lanes: Whole
    # By number of tokens: how many grid rows and columns they use.
    rows: Whole
    columns: Whole
    # The token at each place of the grid; a place without a token has any later one.
    table: Int[Tensor, "G Q"]
    # How many of the first grid rows read consecutive cache slots, which needs no copy.
    consecutive: int

    @classmethod
    def of(cls, lanes: Whole) -> Layout:
        """Arrange tokens by the cache slots that they read."""
        _, index, counts = np.unique(lanes, return_inverse=True, return_counts=True)
        # The number of earlier tokens with the same slot.
        order = index.argsort(kind="stable")
        rank = np.empty(len(lanes), np.int64)
        rank[order] = np.arange(len(lanes)) - np.repeat(np.cumsum(counts) - counts, counts)
        widths = np.unique(np.append(counts, 2 ** np.arange(int(counts.max()).bit_length())))
        work = [(-(-counts // width)).sum() * (width + SLOT_BY_ITSELF) for width in widths]
        width = int(widths[int(np.argmin(work))]) if len(counts) > 1 else len(lanes)
        column, part = rank % width, index * len(lanes) + rank // width
        _, first, row = np.unique(part, return_index=True, return_inverse=True)
        place = first.argsort().argsort()
        row, first = place[row], np.sort(first)
        table = np.full((len(first), width), len(lanes) - 1)
        table[row, column] = np.arange(len(lanes))
        read = lanes[first]
        steps = np.flatnonzero(np.diff(read) != 1)
        return cls(
            row,
            column,
            read,
            np.maximum.accumulate(row) + 1,
            np.maximum.accumulate(column) + 1,
            torch.from_numpy(table),
            int(steps[0]) + 1 if len(steps) else len(read),
        )
