"""At which generation steps a patch is applied. Knows tokens and their text, no model."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from crosspatch.errors import UsageError

FORMS = "all, steps:10-40, every:4, disagree, tokens:digits, tokens:operators or tokens:add,subtract"
OPERATORS = frozenset("+-−–*×·/÷=<>^±")
_LATEX_OPERATORS = frozenset({"times", "cdot", "div", "frac", "pm", "sqrt"})


@dataclass(frozen=True)
class Schedule:
    """The steps from `first` to `last` (None: to the end), every `every`-th of them, and of these perhaps not all.

    `disagree` keeps those at which the unpatched models want different tokens; `words` those at which the token
    that either of them would write next is one of these, `digits` and `operators` standing for classes.
    """

    first: int = 0
    last: int | None = None
    every: int = 1
    disagree: bool = False
    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """A schedule as the settings write it; raises UsageError for anything else."""
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
        """As `parse` reads it."""
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
        """Whether it depends on what the unpatched models would write."""
        return self.disagree or bool(self.words)

    def may(self, step: int) -> bool:
        """Whether the patch can be applied at a step, as far as its number tells."""
        return step >= self.first and (self.last is None or step <= self.last) and (step - self.first) % self.every == 0

    def applies(self, step: int, y_target: int, y_source: int, text_of: Callable[[int], str]) -> bool:
        """Whether the patch is applied at a step where the unpatched models would write these tokens."""
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
