"""Patches: places that are moved together, and grids of them. Knows no model: only numbers and names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from crosspatch.config import Component
from crosspatch.errors import UsageError
from crosspatch.models.site import Site
from crosspatch.patching.schedule import ALL_STEPS, Schedule


@dataclass(frozen=True)
class Patch:
    """Sites that are moved together, at the steps of a schedule."""

    sites: tuple[Site, ...]
    schedule: Schedule = ALL_STEPS

    @classmethod
    def parse(cls, name: str) -> Patch:
        """A patch by its name, `L17.attn_out+L18.head.3@disagree`; raises UsageError."""
        places, at, steps = name.partition("@")
        sites = tuple(Site.parse(place.strip()) for place in places.split("+"))
        if len(set(sites)) < len(sites):
            raise UsageError(f"the patch {name!r} names a site twice")
        return cls(tuple(sorted(sites)), Schedule.parse(steps) if at else ALL_STEPS)

    @property
    def name(self) -> str:
        """The names of its sites, `L17.resid_post+L18.resid_post`, and after an @ its schedule unless that is all."""
        places = "+".join(site.name for site in self.sites)
        return places if self.schedule == ALL_STEPS else f"{places}@{self.schedule.name}"

    @property
    def layer(self) -> int | None:
        """Its layer, or None where it spans several."""
        layers = {site.layer for site in self.sites}
        return layers.pop() if len(layers) == 1 else None

    @property
    def head(self) -> int | None:
        """Its head, or None where it is none or several."""
        heads = {site.head for site in self.sites}
        return heads.pop() if len(heads) == 1 else None

    @property
    def component(self) -> str:
        """Its component; several are joined by a plus sign."""
        return "+".join(sorted({site.component for site in self.sites}))

    @property
    def window(self) -> int:
        """How many layers are patched together."""
        return len({site.layer for site in self.sites})

    @property
    def columns(self) -> dict[str, Any]:
        """Its part of a table's row; readers of tables never take the name apart."""
        return {
            "patch": self.name,
            "component": self.component,
            "layer": self.layer,
            "head": self.head,
            "schedule": self.schedule.name,
            "window": self.window,
        }

    @property
    def entry(self) -> int:
        """The first block that reads something patched, or holds a patched part: below it nothing differs."""
        return min(site.layer + (site.component == "resid_post") for site in self.sites)


def patch_grid(
    layers: Literal["all"] | Iterable[int],
    n_layers: int,
    components: Sequence[Component] = ("resid_post",),
    *,
    heads: Literal["all"] | Iterable[int] = "all",
    n_heads: int = 0,
    window: int = 1,
    schedule: Schedule = ALL_STEPS,
) -> list[Patch]:
    """One patch for each component of each layer, in order of depth; for each head of it where that is a component.

    With `window` layers are moved together, as many as it says, each patch beginning at one of `layers`; windows
    that would reach beyond the last block are left out.
    """
    first_layers = range(n_layers) if layers == "all" else sorted(set(layers))
    chosen_heads = range(n_heads) if heads == "all" else sorted(set(heads))
    patches = []
    for first in first_layers:
        if first + window > n_layers:
            continue
        span = range(first, first + window)
        for component in components:
            for head in chosen_heads if component == "head" else (None,):
                patches.append(Patch(tuple(Site(layer, component, head) for layer in span), schedule))
    return patches
