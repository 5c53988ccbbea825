"""The domains of questions: their names for people and the order in which they are shown.

Knows nothing of how a question is made or graded. A prompt file may bring domains of its own; they stand
after the three of the paper.
"""

from __future__ import annotations

from collections.abc import Iterable

from crosspatch.config import DOMAINS

_TITLES = {
    "related": "Related mathematics",
    "unrelated_math": "Unrelated mathematics",
    "general": "General questions",
    "prompts": "Own prompts",
}


def domain_title(domain: str) -> str:
    """The domain's name as a heading; one that crosspatch does not know keeps its own."""
    return _TITLES.get(domain, domain)


def ordered_domains(domains: Iterable[str]) -> list[str]:
    """Distinct domains: the paper's three first, in its order, then the others by name."""
    found = set(domains)
    return [domain for domain in DOMAINS if domain in found] + sorted(found - set(DOMAINS))
