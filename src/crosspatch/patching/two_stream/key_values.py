"""A key-value cache of the texts that one model has read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosspatch.models.blocks import head_count

# The cache grows by this many positions and slots at a time, since each growth copies the whole cache.
POSITIONS = 64
LANES = 8


class KeyValues:
    """A key-value cache with one slot (lane) for each text; position p of a text is at index p of its slot.

    `read` takes the valid length, and later positions of a slot are stale, so cropping a text is free. A text that
    branches gets a copy of the slot. `positions` and `lanes` are the expected length of a text and number of texts.
    """

    def __init__(self, device: torch.device, positions: int, lanes: int) -> None:
        self.device = device
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        # A CPU allocates memory only when it is written, so all slots can be created at once.
        self._more_lanes = max(lanes, LANES) if device.type == "cpu" else LANES
        self._free: list[int] = []
        self._lanes = 0
        self._positions = positions

    def open(self) -> int:
        """Reserve a free cache slot and return its index."""
        if not self._free:
            self._grow(self._lanes + self._more_lanes, self._positions)
        # Take the lowest slot: slots in use stay adjacent and can be read without a copy.
        lane = min(self._free)
        self._free.remove(lane)
        return lane

    def fork(self, lane: int, length: int) -> int:
        """Copy the first `length` positions of a slot into a new slot, and return its index."""
        forked = self.open()
        for kept in (*self._keys.values(), *self._values.values()):
            kept[forked, :, :length] = kept[lane, :, :length]
        return forked

    def close(self, lane: int) -> None:
        """Free a cache slot."""
        self._free.append(lane)

    def write(
        self,
        layer: int,
        keys: Float[Tensor, "KV T K"],
        values: Float[Tensor, "KV T W"],
        lanes: Int[Tensor, " T"],
        positions: Int[Tensor, " T"],
        longest: int,
    ) -> None:
        """Store keys and values of T tokens in their slots at their positions, all of which are below `longest`."""
        if longest > self._positions:
            self._grow(self._lanes, -(-longest // POSITIONS) * POSITIONS)
        for kept, new in ((self._keys, keys), (self._values, values)):
            if layer not in kept:
                kept[layer] = _zeros(new, self._lanes, new.shape[0], self._positions, new.shape[2])
            kept[layer][lanes, :, positions] = new.transpose(0, 1)

    def read(
        self, layer: int, slots: slice | Int[Tensor, " G"], longest: int
    ) -> tuple[Float[Tensor, "G KV N K"], Float[Tensor, "G KV N W"]]:
        """Return the keys and values in some slots, at positions below `longest`; a slice of slots is not copied."""
        return self._keys[layer][slots, :, :longest], self._values[layer][slots, :, :longest]

    def _grow(self, lanes: int, positions: int) -> None:
        for kept in (self._keys, self._values):
            for layer, old in kept.items():
                grown = _zeros(old, lanes, old.shape[1], positions, old.shape[3])
                grown[: old.shape[0], :, : old.shape[2]] = old
                kept[layer] = grown
        self._free += range(self._lanes, lanes)
        self._lanes, self._positions = lanes, positions


def _zeros(like: Tensor, *shape: int) -> Tensor:
    """Return zeros; uninitialised memory may contain NaN, and a masked position's weight 0 × NaN is NaN.

    On a CPU, NumPy's zeros take memory only where they are written; PyTorch's zeros would take all of it at once.
    """
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    numbers = torch.from_numpy(np.zeros(math.prod(shape) * like.itemsize, dtype=np.uint8))
    return numbers.view(like.dtype).view(shape)


def bytes_per_position(config: Any, itemsize: int) -> int:
    """Return the bytes of one cached position, from a model's (text) configuration and the bytes of one number.

    A model without attention counts as one with a single head.
    """
    heads = getattr(config, "num_key_value_heads", None) or head_count(config) or 1
    width = getattr(config, "head_dim", None) or config.hidden_size // (head_count(config) or 1)
    return int(config.num_hidden_layers * heads * width * 2 * itemsize)
