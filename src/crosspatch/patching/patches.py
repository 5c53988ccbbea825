"""Patches: sites that are patched together and the schedule of steps, parsed from their names; and grids of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from crosspatch.config import Component
from crosspatch.errors import UsageError
from crosspatch.models.site import Site

FORMS = "all, steps:10-40, every:4, disagree, tokens:digits, tokens:operators or tokens:add,subtract"
OPERATORS = frozenset("+-−–*×·/÷=<>^±")
_LATEX_OPERATORS = frozenset({"times", "cdot", "div", "frac", "pm", "sqrt"})


@dataclass(frozen=True)
class Schedule:
    """The steps at which a patch is applied: every `every`-th from `first` to `last` (None: to the end).

    `disagree` restricts them to steps at which the unpatched models predict different tokens; `words` to steps at which
    one of them predicts one of these tokens, where `digits` and `operators` stand for classes of tokens.
    """

    first: int = 0
    last: int | None = None
    every: int = 1
    disagree: bool = False
    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """A schedule from its text in the settings; raises UsageError for anything else."""
        kind, _, rest = text.strip().partition(":")
        if kind == "all" and not rest:
            return cls()
        if kind == "disagree" and not rest:
            return cls(disagree=True)
        if kind == "steps" and (found := re.fullmatch(r"(\d+)-(\d+)?", rest)):
            first, last = int(found[1]), None if found[2] is None else int(found[2])
            if last is None or first <= last:
                return cls(first=first, last=last)
        if kind == "every" and rest.isdecimal() and int(rest) > 0:
            return cls(every=int(rest))
        if kind == "tokens" and (words := tuple(word.strip() for word in rest.split(",") if word.strip())):
            return cls(words=words)
        raise UsageError(f"got the schedule {text!r}, expected {FORMS}")

    @property
    def name(self) -> str:
        """The text from which `parse` makes it."""
        if self.disagree:
            return "disagree"
        if self.words:
            return f"tokens:{','.join(self.words)}"
        if self.every > 1:
            return f"every:{self.every}"
        if self.first or self.last is not None:
            return f"steps:{self.first}-{'' if self.last is None else self.last}"
        return "all"

    @property
    def looks(self) -> bool:
        """Whether it depends on the unpatched models' predictions."""
        return self.disagree or bool(self.words)

    def may(self, step: int) -> bool:
        """Whether the number of the step allows the patch."""
        return step >= self.first and (self.last is None or step <= self.last) and (step - self.first) % self.every == 0

    def applies(self, step: int, y_target: int, y_source: int, text_of: Callable[[int], str]) -> bool:
        """Whether the patch is applied at a step at which the unpatched models predict these tokens."""
        if not self.may(step):
            return False
        if self.disagree:
            return y_target != y_source
        if self.words:
            return any(self._counts(text_of(token)) for token in (y_target, y_source))
        return True

    def _counts(self, text: str) -> bool:
        word = text.strip().casefold()
        return any(
            any(char.isdigit() for char in word)
            if wanted == "digits"
            else bool(OPERATORS & set(word)) or word.lstrip("\\") in _LATEX_OPERATORS
            if wanted == "operators"
            else word == wanted.casefold()
            for wanted in self.words
        )


ALL_STEPS = Schedule()


@dataclass(frozen=True)
class Patch:
    """Sites that are patched together, at the steps of a schedule."""

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
        """The names of its sites, `L17.resid_post+L18.resid_post`, and after an @ its schedule, if not `all`."""
        places = "+".join(site.name for site in self.sites)
        return places if self.schedule == ALL_STEPS else f"{places}@{self.schedule.name}"

    @property
    def layer(self) -> int | None:
        """Its layer, or None where it spans several."""
        layers = {site.layer for site in self.sites}
        return layers.pop() if len(layers) == 1 else None

    @property
    def head(self) -> int | None:
        """Its head, or None without heads or with several."""
        heads = {site.head for site in self.sites}
        return heads.pop() if len(heads) == 1 else None

    @property
    def component(self) -> str:
        """Its component; several are joined by a plus sign."""
        return "+".join(sorted({site.component for site in self.sites}))

    @property
    def window(self) -> int:
        """The number of layers that are patched together."""
        return len({site.layer for site in self.sites})

    @property
    def columns(self) -> dict[str, Any]:
        """Its columns in the row of a table."""
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
        """The first block that reads a patched activation or contains a patched part; below it nothing changes."""
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
    """One patch for each component of each layer, in order of depth; of the component `head` one for each head.

    Each patch has `window` layers, of which the first is one of `layers`; windows that would end beyond the last block
    are left out.
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
