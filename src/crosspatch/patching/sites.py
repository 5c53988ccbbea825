"""Places in a model, and patches made of them. Knows no model: only numbers and names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from crosspatch.config import Component


@dataclass(frozen=True, order=True)
class Site:
    """One place: the output of a component in a layer. Names follow TransformerLens."""

    layer: int
    component: Component = "resid_post"

    @property
    def name(self) -> str:
        """`L18.resid_post`."""
        return f"L{self.layer}.{self.component}"


@dataclass(frozen=True)
class Patch:
    """Sites that are moved together, at every generation step."""

    sites: tuple[Site, ...]

    @property
    def name(self) -> str:
        """The names of its sites, `L17.resid_post+L18.resid_post`."""
        return "+".join(site.name for site in self.sites)

    @property
    def layer(self) -> int | None:
        """Its layer, or None where it spans several."""
        layers = {site.layer for site in self.sites}
        return layers.pop() if len(layers) == 1 else None

    @property
    def component(self) -> str:
        """Its component; several are joined by a plus sign."""
        return "+".join(sorted({site.component for site in self.sites}))


def layer_patches(
    layers: Literal["all"] | Iterable[int], n_layers: int, component: Component = "resid_post"
) -> list[Patch]:
    """One patch for each layer alone, in order of depth."""
    chosen = range(n_layers) if layers == "all" else sorted(set(layers))
    return [Patch((Site(layer, component),)) for layer in chosen]
