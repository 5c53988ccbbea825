"""The controls stage: something else moved to the same places, in the cells where the models disagree.

A shard is a prompt, with all controls.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from crosspatch.analysis.controls import Controls
from crosspatch.config import OWN_CONTROLS, Engine
from crosspatch.data.problem import Problem
from crosspatch.experiment.executors import carry_out
from crosspatch.experiment.patching import possible_engine, runs_of
from crosspatch.experiment.run_context import RunContext
from crosspatch.experiment.sharding import Files
from crosspatch.patching.patches import Patch
from crosspatch.tables import CONTROLS, SCORES

logger = logging.getLogger(__name__)


def measure_controls(work: RunContext) -> None:
    """Score every control, prompt by prompt."""
    carry_out(ControlsStage(work))


@dataclass
class ControlsStage:
    """All controls of an experiment."""

    name: ClassVar[str] = "controls"
    work: RunContext

    def plan(self) -> dict[str, Any]:
        """A shard for each patched problem; none where controls cannot be scored."""
        if self.work.experiment.patch.persistence == "persistent":
            logger.warning("controls: only transient patches can be scored along a given text; none is measured")
            return {"shards": []}
        names = self.work.experiment.moved_controls
        return {"shards": [{"prompts": [problem.id]} for problem in self.problems] if names else []}

    def do(self, shard: int) -> Files:
        """The scores of every control after one prompt; no file where these models can have none."""
        if self.engine == "reference":
            return {}
        names = self.work.experiment.moved_controls
        rows = self.controls.after(self.problems[shard].id, names)
        return {CONTROLS.path(name, shard): CONTROLS.dumped(rows.filter(control=name)) for name in names}

    def gather(self) -> None:
        """Nothing: the tables are read from their parts."""

    @cached_property
    def problems(self) -> list[Problem]:
        """The problems that were patched."""
        return self.work.patched_problems

    @cached_property
    def scores(self) -> pl.DataFrame:
        """The scores of the patches."""
        return self.work.directory.read(SCORES)

    @cached_property
    def engine(self) -> Engine:
        """The engine that these models can use; said once where it has no controls."""
        patches = [Patch.parse(name) for name in self.scores["patch"].unique(maintain_order=True)]
        longest = int(self.scores["position"].max() or 0) + 2  # type: ignore[arg-type]
        found = possible_engine(self.work, patches, longest)
        if found == "reference":
            logger.warning("controls: these models run by the reference engine alone, which has none; none is measured")
        return found

    @cached_property
    def controls(self) -> Controls:
        """The controls along the texts that patches wrote."""
        work = self.work
        return Controls(
            work.pair,
            {problem.id: work.pair.encode(problem.question) for problem in self.problems},
            self.scores,
            runs_of(work),
            children={name: work.model(name) for name in work.experiment.moved_controls if name not in OWN_CONTROLS},
            groups={problem.id: problem.domain for problem in self.problems},
            seed=work.experiment.seed,
        )
