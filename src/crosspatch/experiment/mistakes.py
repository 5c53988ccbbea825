"""The mistakes stage: wrong solutions read token by token, whose words, signs and numbers are known to be wrong.

Nothing is generated. The text is that of somebody who makes the mistake in the problems that are patched, so at each
of its tokens it is known whether the mistake shows there; all patches are scored along it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from crosspatch.config import Engine
from crosspatch.data.problem import Problem, Span
from crosspatch.experiment.executors import carry_out
from crosspatch.experiment.patching import possible_engine, runs_of
from crosspatch.experiment.run_context import RunContext
from crosspatch.experiment.sharding import Files
from crosspatch.patching.patches import Patch
from crosspatch.patching.scoring import score_tokens
from crosspatch.tables import MISTAKES, SCORES

logger = logging.getLogger(__name__)


def score_mistakes(work: RunContext) -> None:
    """Score the patches along the wrong solution of every patched problem that has one."""
    carry_out(MistakesStage(work))


@dataclass
class MistakesStage:
    """All wrong solutions of an experiment's patched problems. A shard is one of them."""

    name: ClassVar[str] = "mistakes"
    work: RunContext

    def plan(self) -> dict[str, Any]:
        """A shard for each wrong solution; none where they cannot be scored."""
        if self.problems and self.work.experiment.patch.persistence == "persistent":
            logger.warning("mistakes: only transient patches can be scored along a given text; none is scored")
            return {"shards": []}
        return {"shards": [{"prompts": [problem.id]} for problem in self.problems]}

    def do(self, shard: int) -> Files:
        """The scores along one wrong solution; no file where these models can have none."""
        if self.engine == "reference":
            return {}
        problem, (prompt, text), prompts = self.problems[shard], self.texts[shard], self.work.pair.prompts
        self.work.pair.check_length(len(prompt), len(text))
        read = [prompts.decode(text[: end + 1]) for end in range(len(text))]
        # Before the solution may stand what separates it from its prompt.
        first = max(0, read[-1].find(problem.solution or ""))
        kinds, rows = kinds_of_tokens([beginning[first:] for beginning in read], problem.spans), []
        for run in runs_of(self.work):
            for trajectory in score_tokens(self.work.pair, prompt, text, self.patches, run):
                rows += [
                    {"span": kind, "read_token_id": token, **row}
                    for kind, token, row in zip(kinds, text, trajectory.rows(problem.id, run, prompts), strict=True)
                ]
        return {MISTAKES.path(shard): MISTAKES.dumped(MISTAKES.frame(rows))}

    def gather(self) -> None:
        """Nothing: the table is read from its parts."""

    @cached_property
    def problems(self) -> list[Problem]:
        """The patched problems with their wrong solutions, as far as they have one."""
        mistaken = {problem.id: problem for problem in self.work.directory.problems("mistaken")}
        return [mistaken[problem.id] for problem in self.work.patched_problems if problem.id in mistaken]

    @cached_property
    def texts(self) -> list[tuple[list[int], list[int]]]:
        """The tokens of their prompts, and theirs."""
        return [self.work.prompts.example(problem.question, problem.solution or "") for problem in self.problems]

    @cached_property
    def patches(self) -> list[Patch]:
        """The patches of the sweep."""
        return [Patch.parse(name) for name in self.work.directory.read(SCORES)["patch"].unique(maintain_order=True)]

    @cached_property
    def engine(self) -> Engine:
        """The engine that these models can use; said once where it cannot score along a given text."""
        longest = max(len(prompt) + len(text) for prompt, text in self.texts)
        found = possible_engine(self.work, self.patches, longest)
        if found == "reference":
            logger.warning("mistakes: these models run by the reference engine alone, which cannot; none is scored")
        return found


def kinds_of_tokens(texts: Sequence[str], spans: Sequence[Span]) -> list[str | None]:
    """For each token the kind of the first wrong place that it is part of, None outside of all.

    `texts` are a solution's beginnings, each with one token more than the one before it.
    """
    kinds: list[str | None] = []
    start = 0
    for text in texts:
        # A blank before a word belongs to its token, not to the place.
        inside = (span.kind for span in spans if span.start < len(text) and span.end > start)
        kinds.append(next(inside, None))
        start = max(start, len(text))
    return kinds
