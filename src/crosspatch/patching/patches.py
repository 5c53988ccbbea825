"""Patches: sites that are patched together, at the steps of a schedule; parsed from names, or built as grids."""

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

    With `disagree`, only steps at which the unpatched models' top-1 tokens differ; with `words`, only steps at which
    an unpatched model predicts one of these tokens (`digits` and `operators` stand for classes of tokens).
    """

    first: int = 0
    last: int | None = None
    every: int = 1
    disagree: bool = False
    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Parse a schedule from its text in the settings; raises UsageError if the text is not a schedule."""
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
        """The text that `parse` turns into this schedule."""
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
        """Whether the schedule depends on the unpatched models' predictions."""
        return self.disagree or bool(self.words)

    def may(self, step: int) -> bool:
        """Whether the schedule allows the patch at this step number, whatever the models predict."""
        return step >= self.first and (self.last is None or step <= self.last) and (step - self.first) % self.every == 0

    def applies(self, step: int, y_target: int, y_source: int, text_of: Callable[[int], str]) -> bool:
        """Whether the patch is applied at this step, given the unpatched models' top-1 tokens."""
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
        """Parse a patch from its name, such as `L17.attn_out+L18.head.3@disagree`; raises UsageError if malformed."""
        places, at, steps = name.partition("@")
        sites = tuple(Site.parse(place.strip()) for place in places.split("+"))
        if len(set(sites)) < len(sites):
            raise UsageError(f"the patch {name!r} names a site twice")
        return cls(tuple(sorted(sites)), Schedule.parse(steps) if at else ALL_STEPS)

    @property
    def name(self) -> str:
        """The sites' names joined by +, and @ with the schedule unless `all`: `L17.attn_out+L18.mlp_out@disagree`."""
        places = "+".join(site.name for site in self.sites)
        return places if self.schedule == ALL_STEPS else f"{places}@{self.schedule.name}"

    @property
    def layer(self) -> int | None:
        """The layer of its sites, or None if they are in several layers."""
        layers = {site.layer for site in self.sites}
        return layers.pop() if len(layers) == 1 else None

    @property
    def head(self) -> int | None:
        """The head of its sites, or None unless all have the same one."""
        heads = {site.head for site in self.sites}
        return heads.pop() if len(heads) == 1 else None

    @property
    def component(self) -> str:
        """The component of its sites; several components are joined by a plus sign."""
        return "+".join(sorted({site.component for site in self.sites}))

    @property
    def window(self) -> int:
        """The number of layers that are patched together."""
        return len({site.layer for site in self.sites})

    @property
    def columns(self) -> dict[str, Any]:
        """The patch's values for the columns of a table row."""
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
        """The start block: the first block whose computation the patch changes."""
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
    """Return one patch for each layer and component, by depth; the component `head` gives one patch for each head.

    Each patch spans `window` consecutive layers and starts at one of `layers`; windows that would extend beyond the
    last block are skipped.
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
