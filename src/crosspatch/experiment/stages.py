"""The stages of one experiment in their order, each resumed from the run directory.

    data -> finetune -> evaluate -> patch -> report
    data -> teach           data -> search

A stage that is done is not done again; one that was stopped goes on with the first part that is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crosspatch.config import Experiment
from crosspatch.experiment.answering import evaluate
from crosspatch.experiment.checks import check, check_data, check_files, check_prompts
from crosspatch.experiment.children import make_children
from crosspatch.experiment.page import make_report
from crosspatch.experiment.patching import patch_prompts
from crosspatch.experiment.problems import make_problems
from crosspatch.experiment.search import search
from crosspatch.experiment.teaching import teach
from crosspatch.experiment.work import Work
from crosspatch.results.run import RunDirectory

# What is done in each stage, in their order.
WORK: dict[str, Callable[[Work], None]] = {
    "data": make_problems,
    "teach": teach,
    "search": search,
    "finetune": make_children,
    "evaluate": evaluate,
    "patch": patch_prompts,
    "report": make_report,
}
# What `run` does; the others are asked for by their names.
STAGES = ("data", "finetune", "evaluate", "patch", "report")
# What has to be done before each stage. `report` shows what is there.
NEEDS: dict[str, tuple[str, ...]] = {
    "data": (),
    "teach": ("data",),
    "search": ("data",),
    "finetune": ("data",),
    "evaluate": ("data", "finetune"),
    "patch": ("data", "finetune"),
    "report": (),
}


@dataclass(frozen=True)
class ExperimentRun:
    """One experiment in its run directory."""

    work: Work

    @classmethod
    def start(
        cls, experiment: Experiment, out: Path, say: Callable[[str], None] = print, *, models: bool = True
    ) -> ExperimentRun:
        """Check all that can be checked without loading a model, then make or continue the run directory.

        `models` is false where only problems are made: then no checkpoint has to be there.
        """
        RunDirectory.check(out, experiment)
        there = RunDirectory(out)
        check_data(experiment, made=there.record.is_file() and there.done("data"))
        if models:
            check(experiment)
        directory = RunDirectory.start(out, experiment)
        check_prompts(experiment, directory)
        check_files(directory)
        return cls(Work(experiment, directory, say))

    @property
    def directory(self) -> RunDirectory:
        """Where it all goes."""
        return self.work.directory

    def run(self, *wanted: str) -> None:
        """Do the wanted stages, and before them what they need; all stages where none is named."""
        stages = wanted or STAGES
        for stage in WORK:
            if stage in stages or any(stage in NEEDS[later] for later in stages):
                self._do(stage)

    def _do(self, stage: str) -> None:
        # A report is cheap, and there may be more to show than last time.
        if stage != "report" and self.directory.done(stage):
            self.work.say(f"{stage}: done before")
            return
        self.work.say(f"{stage}: starting")
        with self.directory.stage(stage):
            WORK[stage](self.work)
