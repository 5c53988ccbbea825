"""A site in a model: layer, component and head, with a name. `components.check_sites` checks that a model has it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crosspatch.config import COMPONENTS, Component
from crosspatch.errors import UsageError

_NAME = re.compile(r"L([0-9]+)\.([a-z_]+)(?:\.([0-9]+))?")


@dataclass(frozen=True, order=True)
class Site:
    """A layer's component; for `head`, with the head's number. Names follow TransformerLens.

    Raises UsageError if head and component do not match, or if a number is negative.
    """

    # Sorting works: a component's sites either all have a head or none has, so a number is never compared with None.
    layer: int
    component: Component = "resid_post"
    head: int | None = None

    def __post_init__(self) -> None:
        if self.component not in COMPONENTS:
            raise UsageError(f"got component {self.component!r}, expected one of {', '.join(COMPONENTS)}")
        if self.component == "head" and self.head is None:
            raise UsageError(f"a head in layer {self.layer} needs its number, such as L{self.layer}.head.0")
        if self.component != "head" and self.head is not None:
            raise UsageError(f"got head {self.head} with {self.component}, which has no heads; use component head")
        if self.layer < 0 or (self.head is not None and self.head < 0):
            raise UsageError(f"got {self.name}; layers and heads count from 0")

    @property
    def name(self) -> str:
        """The site's name, such as `L18.resid_post` or `L18.head.3`."""
        return f"L{self.layer}.{self.component}" + ("" if self.head is None else f".{self.head}")

    @classmethod
    def parse(cls, name: str) -> Site:
        """Return the site with this name. Raises UsageError for any other string."""
        match = _NAME.fullmatch(name)
        if match is None or match[2] not in COMPONENTS:
            raise UsageError(
                f"got site {name!r}, expected a layer and a component, such as L18.resid_post or L18.head.3; "
                f"components: {', '.join(COMPONENTS)}"
            )
        return cls(int(match[1]), match[2], None if match[3] is None else int(match[3]))
