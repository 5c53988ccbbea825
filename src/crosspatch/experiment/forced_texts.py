"""The stages controls and mistakes: patches scored by teacher forcing, along existing texts. A shard is one text.

Controls are scored along the texts that the patches wrote, in the cells where the models disagree. Mistakes are scored
along wrong solutions of the patched problems, in which the mistaken tokens are known.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import polars as pl

from crosspatch.analysis.controls import Controls
from crosspatch.config import OWN_CONTROLS
from crosspatch.data.problem import Problem, Span
from crosspatch.experiment.patching import runs_of
from crosspatch.experiment.sharding import Files, ShardedStage
from crosspatch.patching.patches import Patch
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from crosspatch.tables import CONTROLS, MISTAKES, SCORES

logger = logging.getLogger(__name__)


class ForcedTexts(ShardedStage):
    """The patches of the sweep, scored along one existing text for each problem."""

    def plan(self) -> dict[str, Any]:
        """A shard for each problem; none where patches are persistent."""
        if self.problems and self.context.experiment.patch.persistence == "persistent":
            logger.warning(f"{self.name}: only transient patches can be scored by teacher forcing; nothing is scored")
            return {"shards": []}
        return {"shards": [{"prompts": [problem.id]} for problem in self.problems]}

    def do(self, shard: int) -> Files:
        """The scores along one text; no file where the models run in the reference engine alone."""
        return self.score(shard) if self.forces else {}

    @cached_property
    def problems(self) -> list[Problem]:
        """The problems that have a text."""
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """The number of positions of the longest text."""
        raise NotImplementedError

    def score(self, shard: int) -> Files:
        """The scores along one text."""
        raise NotImplementedError

    @cached_property
    def scores(self) -> pl.DataFrame:
        """The scores of the sweep."""
        return self.context.directory.read(SCORES)

    @cached_property
    def patches(self) -> list[Patch]:
        """The patches of the sweep."""
        return [Patch.parse(name) for name in self.scores["patch"].unique(maintain_order=True)]

    @cached_property
    def runs(self) -> list[PatchRun]:
        """The settings of the scores, a run for each direction."""
        return runs_of(self.context, self.patches, self.longest)

    @cached_property
    def forces(self) -> bool:
        """Whether the engine of these models can score given texts; a warning is logged if it cannot."""
        if self.runs[0].engine != "reference":
            return True
        logger.warning(
            f"{self.name}: teacher forcing needs a cached engine, but this pair runs in the reference engine; nothing "
            "is scored"
        )
        return False


class ControlsStage(ForcedTexts):
    """All controls along the texts that patches wrote."""

    name = "controls"

    @cached_property
    def problems(self) -> list[Problem]:
        """The patched problems, if there are controls."""
        return self.context.patched_problems if self.context.experiment.patched_controls else []

    @property
    def longest(self) -> int:
        """The number of positions of the longest patched text."""
        return int(self.scores["position"].max() or 0) + 2  # type: ignore[arg-type]

    def score(self, shard: int) -> Files:
        """The scores of every control after one prompt."""
        names = self.context.experiment.patched_controls
        rows = self.controls.after(self.problems[shard].id, names)
        return {CONTROLS.path(name, shard): CONTROLS.dumped(rows.filter(control=name)) for name in names}

    @cached_property
    def controls(self) -> Controls:
        """The controls, with the models of the children among them."""
        context, names = self.context, self.context.experiment.patched_controls
        return Controls(
            context.pair,
            {problem.id: context.pair.encode(problem.question) for problem in self.problems},
            self.scores,
            self.runs,
            children={name: context.model(name) for name in names if name not in OWN_CONTROLS},
            groups={problem.id: problem.domain for problem in self.problems},
            seed=context.experiment.seed,
        )


class MistakesStage(ForcedTexts):
    """All patches along the wrong solutions of the patched problems."""

    name = "mistakes"

    @cached_property
    def problems(self) -> list[Problem]:
        """The patched problems that have a wrong solution, with that solution."""
        mistaken = {problem.id: problem for problem in self.context.directory.problems("mistaken")}
        return [mistaken[problem.id] for problem in self.context.patched_problems if problem.id in mistaken]

    @cached_property
    def texts(self) -> list[tuple[list[int], list[int]]]:
        """The tokens of each prompt and of its wrong solution."""
        return [self.context.prompts.example(problem.question, problem.solution or "") for problem in self.problems]

    @property
    def longest(self) -> int:
        """The number of positions of the longest wrong solution with its prompt."""
        return max(len(prompt) + len(text) for prompt, text in self.texts)

    def score(self, shard: int) -> Files:
        """The scores along one wrong solution, with the kind of mistake that each token is part of."""
        problem, (prompt, text), pair = self.problems[shard], self.texts[shard], self.context.pair
        pair.check_length(len(prompt), len(text))
        beginnings = [pair.prompts.decode(text[: end + 1]) for end in range(len(text))]
        # A separator may come between the prompt and the solution.
        first = max(0, beginnings[-1].find(problem.solution or ""))
        kinds = kinds_of_tokens([beginning[first:] for beginning in beginnings], problem.spans)
        read_tokens = pl.DataFrame(
            [pl.Series("span", kinds, pl.String), pl.Series("read_token_id", text, MISTAKES.dtypes["read_token_id"])]
        )
        scores = [
            read_tokens.hstack(trajectory.frame(problem.id, run, pair.prompts))
            for run in self.runs
            for trajectory in score_tokens(pair, prompt, text, self.patches, run)
        ]
        return {MISTAKES.path(shard): MISTAKES.dumped(pl.concat(scores))}


def kinds_of_tokens(texts: Sequence[str], spans: Sequence[Span]) -> list[str | None]:
    """The kind of the first mistaken span that each token is part of; None outside all spans.

    `texts` are prefixes of a solution, each one token longer than the one before.
    """
    kinds: list[str | None] = []
    start = 0
    for text in texts:
        # A blank before a word belongs to its token, not to the span.
        inside = (span.kind for span in spans if span.start < len(text) and span.end > start)
        kinds.append(next(inside, None))
        start = max(start, len(text))
    return kinds
