"""The domains of questions: their names for people and the order in which they are shown.

A prompt file may name other domains; they come after ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from crosspatch.config import DOMAINS

_TITLES = {
    "related": "Related mathematics",
    "near": "Neighbouring mathematics",
    "unrelated_math": "Unrelated mathematics",
    "general": "General questions",
    "alignment": "Free questions",
    "prompts": "Own prompts",
}


def domain_title(domain: str) -> str:
    """The domain's name as a heading; the name itself if crosspatch does not know the domain."""
    return _TITLES.get(domain, domain)


def ordered_domains(domains: Iterable[str]) -> list[str]:
    """Distinct domains: ours first, in their order, then the others by name."""
    found = set(domains)
    return [domain for domain in DOMAINS if domain in found] + sorted(found - set(DOMAINS))


def with_domain(frame: pl.DataFrame, domains: Mapping[str, str]) -> pl.DataFrame:
    """A table with prompts, and a column `domain` of theirs; raises ValueError for a prompt that `domains` lacks."""
    missing = sorted(set(frame["prompt_id"]) - domains.keys())
    if missing:
        raise ValueError(f"no domain known for prompt {missing[0]!r} ({len(missing)} such); pass all problems")
    known = pl.DataFrame(
        {"prompt_id": list(domains), "domain": list(domains.values())},
        schema={"prompt_id": pl.String, "domain": pl.String},
    )
    return frame.join(known, on="prompt_id", how="left", maintain_order="left")
