"""The cached engine held against the published algorithm on a given pair, at length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import polars as pl

from crosspatch.config import COMPONENTS, Component, Direction, Engine, Persistence
from crosspatch.models.components import find_components
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch
from crosspatch.patching.sweep import Sweep, choose_patches
from crosspatch.patching.trajectory import PatchRun

_DELTAS = ("delta_clean", "delta_corrupted", "delta_patched")


@dataclass(frozen=True)
class Difference:
    """How far the engines are apart in one component, direction and persistence; ΔLs in logits, KL in nats."""

    component: str
    direction: Direction
    persistence: Persistence
    steps: int
    same_tokens: bool
    largest_delta: float
    largest_kl: float


@dataclass(frozen=True)
class Comparison:
    """The differences of all components, directions and persistences."""

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
    components: Sequence[Component] | None = None,
    heads: Literal["all"] | Iterable[int] = "all",
    max_new_tokens: int = 8,
    tolerance: float = 1e-3,
) -> Comparison:
    """Patch one question by both engines, at some or all of the components that the models have.

    `tolerance` is in logits, for float32. Raises UsageError for places that the pair does not have.
    """
    layers = layers if layers == "all" else tuple(layers)
    heads = heads if heads == "all" else tuple(heads)
    rows = []
    for component in available_components(pair) if components is None else components:
        patches = choose_patches(pair, layers, component, heads=heads)
        for direction, persistence in product(get_args(Direction), get_args(Persistence)):
            run = PatchRun(direction, persistence, max_new_tokens, pair.small_denominator)
            fast, slow = (_scores(pair, question, patches, run, engine) for engine in ("cached", "reference"))
            rows.append(_difference(fast, slow, component, direction, persistence))
    return Comparison(tuple(rows), tolerance)


def available_components(pair: ModelPair) -> list[Component]:
    """The components that every block of the pair has."""

    def there(component: Component) -> bool:
        sites = [Site(layer, component, 0 if component == "head" else None) for layer in range(pair.n_layers)]
        return all(find_components(model).has(site) for model in (pair.clean, pair.corrupted) for site in sites)

    return [component for component in COMPONENTS if component == "resid_post" or there(component)]


def _scores(pair: ModelPair, question: str, patches: list[Patch], run: PatchRun, engine: Engine) -> pl.DataFrame:
    encoded = {"verify": pair.encode(question, run.max_new_tokens)}
    return Sweep(pair, patches, [run], engine, rows=len(patches)).over(encoded, unpatched=False)[0]


def _difference(
    fast: pl.DataFrame, slow: pl.DataFrame, component: str, direction: Direction, persistence: Persistence
) -> Difference:
    tokens = ["patch", "step", "token_id", "clean_token_id", "corrupted_token_id"]
    same = fast.select(tokens).equals(slow.select(tokens))
    # After another token the contexts differ, and numbers cannot be compared.
    both = fast.join(slow, on=tokens, suffix="_slow")

    def largest(*columns: str) -> float:
        gaps = [(both[column] - both[f"{column}_slow"]).abs().max() for column in columns]
        return max((float(gap) for gap in gaps if isinstance(gap, float)), default=0.0)

    return Difference(
        component=component,
        direction=direction,
        persistence=persistence,
        steps=fast.height,
        same_tokens=same,
        largest_delta=largest(*_DELTAS),
        largest_kl=largest("kl_clean", "kl_patched"),
    )
