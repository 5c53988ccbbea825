"""The questions from other domains that ship with crosspatch. Knows nothing of how answers are graded."""

from __future__ import annotations

from importlib import resources

from crosspatch.data.json_lines import read_lines
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
