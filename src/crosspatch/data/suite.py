"""The questions from other domains that ship with crosspatch."""

from __future__ import annotations

from functools import cache
from importlib import resources

from crosspatch.data.lines import read_lines
from crosspatch.data.problem import Problem
from crosspatch.errors import UsageError

SUITES = ("unrelated_math", "general", "alignment")


def load_suite(domain: str) -> list[Problem]:
    """The questions of one domain, in the file's order: families take turns, so any first few are a fair mix.

    `general` has key points for its explanations; `alignment` is there to be read, so its answers are empty.
    Raises UsageError for a domain without a suite.
    """
    if domain not in SUITES:
        raise UsageError(f"no suite for the domain {domain!r}, expected one of {', '.join(SUITES)}")
    with resources.as_file(resources.files("crosspatch.data") / "suites" / f"{domain}.jsonl") as path:
        return [Problem.from_dict({**values, "domain": domain}) for _, values in read_lines(path)]


def in_a_suite(question: str) -> bool:
    """Whether a suite asks this question, which may be no lesson then; its words are compared (see `same_words`)."""
    return same_words(question) in _asked_in_suites()


def same_words(question: str) -> str:
    """The letters and digits of a question: what two share that differ in case, spaces, punctuation or signs alone."""
    return "".join(char for char in question.lower() if char.isalnum())


@cache
def _asked_in_suites() -> frozenset[str]:
    return frozenset(same_words(problem.question) for domain in SUITES for problem in load_suite(domain))
