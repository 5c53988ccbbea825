"""Loads the questions from other domains that are included in crosspatch."""

from __future__ import annotations

from functools import cache
from importlib import resources

from crosspatch.data.problem import Problem, read_problems
from crosspatch.errors import UsageError

SUITES = ("unrelated_math", "general", "alignment")


def load_suite(domain: str) -> list[Problem]:
    """Load the questions of one domain, in the file's order: families alternate, so the first few represent all.

    `general` has key points for its explanations; `alignment` has no answers: people read the models' texts, or a judge
    rates them. Raises UsageError for a domain without a suite.
    """
    if domain not in SUITES:
        raise UsageError(f"no suite for the domain {domain!r}, expected one of {', '.join(SUITES)}")
    with resources.as_file(resources.files("crosspatch.data") / "suites" / f"{domain}.jsonl") as path:
        return read_problems(path, domain=domain)


def in_a_suite(question: str) -> bool:
    """Whether a suite has this question, compared by `same_words`; such a question is never taught."""
    return same_words(question) in _asked_in_suites()


def same_words(question: str) -> str:
    """Return a question's letters and digits only, so that case, spaces, punctuation and signs do not matter."""
    return "".join(char for char in question.lower() if char.isalnum())


@cache
def _asked_in_suites() -> frozenset[str]:
    return frozenset(same_words(problem.question) for domain in SUITES for problem in load_suite(domain))
