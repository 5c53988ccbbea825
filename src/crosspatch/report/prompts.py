"""The prompts of a report: their domains, their order, and the selection if there are too many to show.

Domains take turns, and each shows its prompts in their order. Scores play no part in the selection; they decide only
which of the shown prompts comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import polars as pl

from crosspatch.characters import visible
from crosspatch.data.problem import Problem
from crosspatch.statistics.domain import ordered_domains

# The most names of omitted prompts that are listed.
MOST_NAMES = 2_000


def domains_of(problems: Mapping[str, Problem]) -> dict[str, str]:
    """Each prompt's domain."""
    return {prompt_id: problem.domain for prompt_id, problem in problems.items()}


def prompts_in(frame: pl.DataFrame, problems: Mapping[str, Problem]) -> list[str]:
    """The prompts of a frame, by domain and then in the order of the frame; ValueError for one without a problem."""
    found = frame["prompt_id"].unique(maintain_order=True).to_list()
    missing = [prompt_id for prompt_id in found if prompt_id not in problems]
    if missing:
        raise ValueError(f"no problem is known for prompt {missing[0]!r} ({len(missing)} such); pass all problems")
    domains = ordered_domains(problem.domain for problem in problems.values())
    return sorted(found, key=lambda prompt_id: domains.index(problems[prompt_id].domain))


def most_telling(scores: pl.DataFrame | None, problems: Mapping[str, Problem], prompts: Sequence[str]) -> int:
    """The place of the prompt with the most cells with a CTS, of a related problem if one has any; 0 without scores."""
    cells = {} if scores is None else dict(scores.filter(status="ok").group_by("prompt_id").len().iter_rows())

    def telling(place: int) -> tuple[bool, int]:
        count = cells.get(prompts[place], 0)
        return count > 0 and problems[prompts[place]].domain == "related", count

    return max(range(len(prompts)), key=telling, default=0)


@dataclass(frozen=True)
class Selection:
    """The shown prompts and the omitted prompts, in the order of the report."""

    shown: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        prompts: Sequence[str],
        problems: Mapping[str, Problem],
        most: int,
        sizes: Mapping[str, int] | None = None,
    ) -> Selection:
        """As many prompts as fit in `most`; each counts as its number in `sizes`, or as 1.

        Every domain shows at least one prompt. A domain stops at the first prompt that does not fit.
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
        """The names of omitted prompts; the last entry counts the names that are not listed."""
        listed = [visible(name, 80).replace("␣", " ") for name in self.left_out[:MOST_NAMES]]
        more = len(self.left_out) - len(listed)
        return [*listed, f"and {more:,} more"] if more else listed
