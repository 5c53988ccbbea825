"""The cached engine held against the published algorithm on a given pair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import polars as pl

from crosspatch.config import Direction, Persistence
from crosspatch.models.pair import ModelPair, check_layers
from crosspatch.patching.sites import layer_patches
from crosspatch.patching.sweep import patch_prompt
from crosspatch.patching.trajectory import PatchRun

_DELTAS = ("delta_clean", "delta_corrupted", "delta_patched")


@dataclass(frozen=True)
class Difference:
    """How far the engines are apart in one direction and persistence; ΔLs in logits, KL in nats."""

    direction: Direction
    persistence: Persistence
    steps: int
    same_tokens: bool
    largest_delta: float
    largest_kl: float


@dataclass(frozen=True)
class Comparison:
    """The differences of all directions and persistences."""

    rows: tuple[Difference, ...]
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether all tokens are the same and every ΔL within the tolerance (logits)."""
        return all(row.same_tokens and row.largest_delta <= self.tolerance for row in self.rows)


def compare_engines(
    pair: ModelPair,
    question: str,
    layers: Literal["all"] | Iterable[int] = "all",
    max_new_tokens: int = 8,
    tolerance: float = 1e-3,
) -> Comparison:
    """Patch one question by both engines; `tolerance` is in logits, for float32."""
    layers = layers if layers == "all" else tuple(layers)
    check_layers(layers, pair.n_layers)
    patches = layer_patches(layers, pair.n_layers)
    rows = []
    for direction, persistence in product(get_args(Direction), get_args(Persistence)):
        run = PatchRun(direction, persistence, max_new_tokens)
        fast, _ = patch_prompt(pair, "verify", question, patches, run, "cached")
        slow, _ = patch_prompt(pair, "verify", question, patches, run, "reference")
        rows.append(_difference(fast, slow, direction, persistence))
    return Comparison(tuple(rows), tolerance)


def _difference(fast: pl.DataFrame, slow: pl.DataFrame, direction: Direction, persistence: Persistence) -> Difference:
    tokens = ["patch", "step", "token_id", "clean_token_id", "corrupted_token_id"]
    same = fast.select(tokens).equals(slow.select(tokens))
    # After another token the contexts differ, and numbers cannot be compared.
    both = fast.join(slow, on=tokens, suffix="_slow")

    def largest(*columns: str) -> float:
        gaps = [(both[column] - both[f"{column}_slow"]).abs().max() for column in columns]
        return max((float(gap) for gap in gaps if isinstance(gap, float)), default=0.0)

    return Difference(
        direction=direction,
        persistence=persistence,
        steps=fast.height,
        same_tokens=same,
        largest_delta=largest(*_DELTAS),
        largest_kl=largest("kl_clean", "kl_patched"),
    )
