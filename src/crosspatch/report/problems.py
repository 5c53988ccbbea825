"""What a report needs to know of a problem, and the order in which problems appear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import polars as pl

from crosspatch.statistics.domain import ordered_domains


class ProblemLike(Protocol):
    """A question with its domain and right answer; `crosspatch.data.problem.Problem` is one."""

    @property
    def domain(self) -> str:
        """The domain."""

    @property
    def question(self) -> str:
        """The question as it was asked."""

    @property
    def answer(self) -> str:
        """The right answer; empty where none is known."""


def domains_of(problems: Mapping[str, ProblemLike]) -> dict[str, str]:
    """Each prompt's domain."""
    return {prompt_id: problem.domain for prompt_id, problem in problems.items()}


def prompts_in(frame: pl.DataFrame, problems: Mapping[str, ProblemLike]) -> list[str]:
    """The prompts of a frame, by domain and then as they come; ValueError for one without a problem."""
    found = frame["prompt_id"].unique(maintain_order=True).to_list()
    missing = [prompt_id for prompt_id in found if prompt_id not in problems]
    if missing:
        raise ValueError(f"no problem is known for prompt {missing[0]!r} ({len(missing)} such); pass all problems")
    domains = ordered_domains(problem.domain for problem in problems.values())
    return sorted(found, key=lambda prompt_id: domains.index(problems[prompt_id].domain))
