"""The domains of questions: their names for people and the order in which they are shown.

Knows nothing of how a question is made or graded. A prompt file may bring domains of its own; they stand
after ours.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    """The domain's name as a heading; one that crosspatch does not know keeps its own."""
    return _TITLES.get(domain, domain)


def ordered_domains(domains: Iterable[str]) -> list[str]:
    """Distinct domains: ours first, in their order, then the others by name."""
    found = set(domains)
    return [domain for domain in DOMAINS if domain in found] + sorted(found - set(DOMAINS))
