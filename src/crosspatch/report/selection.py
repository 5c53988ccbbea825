"""Which prompts a report shows where there are too many for all, and which it leaves out.

Domains take turns, and each shows its prompts in their order: never by what their scores are, so that what is seen is
no better than what is not. Knows nothing of how a prompt is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from crosspatch.characters import visible
from crosspatch.report.problems import ProblemLike

# So many names are listed of those that are left out.
MOST_NAMES = 2_000


@dataclass(frozen=True)
class Selection:
    """The prompts that are shown and those that are left out, both in the report's order."""

    shown: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        prompts: Sequence[str],
        problems: Mapping[str, ProblemLike],
        most: int,
        sizes: Mapping[str, int] | None = None,
    ) -> Selection:
        """As many as have room in `most`; each takes as much as `sizes` says, or 1.

        Every domain shows one, whatever it takes; a domain that has no room for its next prompt shows no more.
        """
        by_domain: dict[str, list[str]] = {}
        for prompt_id in prompts:
            by_domain.setdefault(problems[prompt_id].domain, []).append(prompt_id)
        shown: set[str] = set()
        full: set[str] = set()
        used = 0
        for turn in zip_longest(*by_domain.values()):
            for domain, prompt_id in zip(by_domain, turn, strict=True):
                if prompt_id is None or domain in full:
                    continue
                size = 1 if sizes is None else sizes.get(prompt_id, 0)
                if used + size > most and by_domain[domain][0] != prompt_id:
                    full.add(domain)
                    continue
                shown.add(prompt_id)
                used += size
        return cls(
            tuple(prompt_id for prompt_id in prompts if prompt_id in shown),
            tuple(prompt_id for prompt_id in prompts if prompt_id not in shown),
        )

    @property
    def counted(self) -> str:
        """Such as "400 of 1,000 prompts, the first of each domain in turn"."""
        whole = len(self.shown) + len(self.left_out)
        return f"{len(self.shown):,} of {whole:,} prompts, the first of each domain in turn"

    @property
    def names(self) -> list[str]:
        """The names of those that are left out, as they are shown; of very many the last entry says how many more."""
        listed = [visible(name, 80).replace("␣", " ") for name in self.left_out[:MOST_NAMES]]
        more = len(self.left_out) - len(listed)
        return [*listed, f"and {more:,} more"] if more else listed
