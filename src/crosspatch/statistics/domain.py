"""The domains of questions: their headings and their order in tables and charts.

A prompt file may have other domains, which come after crosspatch's own.
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
    """Return the domain's heading, or its name if it is not one of crosspatch's own domains."""
    return _TITLES.get(domain, domain)


def ordered_domains(domains: Iterable[str]) -> list[str]:
    """Return the distinct domains: crosspatch's own in their fixed order, then the others by name."""
    found = set(domains)
    return [domain for domain in DOMAINS if domain in found] + sorted(found - set(DOMAINS))


def with_domain(frame: pl.DataFrame, domains: Mapping[str, str]) -> pl.DataFrame:
    """Add the column `domain` to a table with `prompt_id`; raises ValueError for a prompt that is not in `domains`."""
    missing = sorted(set(frame["prompt_id"]) - domains.keys())
    if missing:
        raise ValueError(f"got no domain for the prompt {missing[0]!r} ({len(missing)} in total); pass all problems")
    known = pl.DataFrame(
        {"prompt_id": list(domains), "domain": list(domains.values())},
        schema={"prompt_id": pl.String, "domain": pl.String},
    )
    return frame.join(known, on="prompt_id", how="left", maintain_order="left")
