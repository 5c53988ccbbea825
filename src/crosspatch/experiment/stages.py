"""The stages of one experiment in their order, each resumed from the run directory.

    data -> finetune -> evaluate -> patch -> controls, mistakes -> report
    data -> teach           data -> search           finetune -> localise, lenses

A stage that is done is not done again; one that was stopped goes on with the first part that is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from crosspatch.config import Experiment
from crosspatch.errors import UsageError
from crosspatch.experiment.checks import (
    check,
    check_data,
    check_files,
    check_judge,
    check_lenses,
    check_search,
    check_teaching,
    check_training,
)
from crosspatch.experiment.problems import keep_prompts
from crosspatch.experiment.run_context import RunContext
from crosspatch.experiment.sharding import prepare, shards_of, work_off_slice
from crosspatch.files import remove_half_written
from crosspatch.storage.lock import RunLock
from crosspatch.storage.run import RunDirectory
from crosspatch.storage.shards import Shards

logger = logging.getLogger(__name__)

# What is done in each stage, in their order: a function of a module here, imported when the stage begins. Most import
# torch, which takes seconds, and problems and reports need none.
WORK = {
    "data": "problems.make_problems",
    "teach": "teaching.teach",
    "search": "search.search",
    "finetune": "children.make_children",
    "evaluate": "answering.evaluate",
    "patch": "patching.patch_prompts",
    "controls": "controls.measure_controls",
    "mistakes": "mistakes.score_mistakes",
    "localise": "localising.localise",
    "lenses": "lenses.measure_lenses",
    "report": "page.make_report",
}
# What `run` does; the others are asked for by their names.
STAGES = ("data", "finetune", "evaluate", "patch", "controls", "mistakes", "report")
# What has to be done before each stage. `report` shows what is there.
NEEDS: dict[str, tuple[str, ...]] = {
    "data": (),
    "teach": ("data",),
    "search": ("data",),
    "finetune": ("data",),
    "evaluate": ("data", "finetune"),
    "patch": ("data", "finetune"),
    "controls": ("data", "finetune", "patch"),
    "mistakes": ("data", "finetune", "patch"),
    "localise": ("data", "finetune"),
    "lenses": ("data", "finetune"),
    "report": (),
}
# Stages that read no problems where models and prompts are given.
FROM_PROMPTS = ("finetune", "patch", "controls", "localise")
# What is refused of the settings before a stage begins, beside what all of them refuse.
CHECKS: dict[str, tuple[Callable[[Experiment], None], ...]] = {
    "teach": (check_teaching, partial(check_training, key="teach"), check_judge),
    "search": (check_search, partial(check_training, key="finetune"), check_judge),
    "finetune": (partial(check_training, key="finetune"),),
    "evaluate": (check_judge,),
    "lenses": (check_lenses,),
    "patch": (check_judge,),
}


@dataclass(frozen=True)
class ExperimentRun:
    """One experiment in its run directory."""

    work: RunContext

    @classmethod
    def start(cls, experiment: Experiment, out: Path, stages: Sequence[str] = STAGES) -> ExperimentRun:
        """Check all that can be checked without loading a model, then make or continue the run directory.

        `stages` are those that are meant to be done. Where only problems are made, no checkpoint has to be there, and
        what is needed for training alone is not asked for where all training is done.
        """
        RunDirectory.check(out, experiment)
        there = RunDirectory(out)
        needed = _with_needs(stages, experiment)
        to_do = [stage for stage in needed if not (there.record_file.is_file() and there.done(stage))]
        if "data" in needed:
            check_data(experiment, made="data" not in to_do)
        if list(stages) != ["data"]:
            check(experiment)
        for stage in to_do:
            for refuse in CHECKS.get(stage, ()):
                refuse(experiment)
        if there.record_file.is_file():
            keep_prompts(experiment, there)
        else:
            # Several slices may begin at once: one of them makes the record.
            out.mkdir(parents=True, exist_ok=True)
            with RunLock(out).alone(wait=True):
                keep_prompts(experiment, RunDirectory.start(out, experiment))
        check_files(there)
        return cls(RunContext(experiment, there))

    @property
    def directory(self) -> RunDirectory:
        """Where it all goes."""
        return self.work.directory

    def run(self, *wanted: str) -> None:
        """Do the wanted stages, and before them what they need; all stages where none is named.

        Raises UsageError where another command is working in the run directory.
        """
        with self.work.lock.alone():
            try:
                self._do_all(_with_needs(wanted or STAGES, self.work.experiment))
            finally:
                # With the lock held alone, no worker is left, here or on another machine.
                remove_half_written(self.directory.root)

    def run_slice(self, number: int, of: int) -> None:
        """Do one of so many slices of the sweep, the first is 1, while others do theirs; what it needs comes first.

        The first of them makes the plan. When all are done, `run` does what follows.
        """
        from crosspatch.experiment.patching import PatchStage

        stage = PatchStage(self.work)
        if not shards_of(stage).planned:
            with self.work.lock.alone(wait=True):
                self._do_all([stage for stage in _with_needs(["patch"], self.work.experiment) if stage != "patch"])
                prepare(stage)
        work_off_slice(stage, number, of)
        left = len(shards_of(stage).left())
        logger.info(f"patch: slice {number} of {of} is done, {left} shards are left to others")

    def _do_all(self, stages: Sequence[str]) -> None:
        for stage in stages:
            self._do(stage)

    def _do(self, stage: str) -> None:
        # A report is cheap, and there may be more to show than last time.
        done = stage != "report" and self.directory.done(stage)
        # What is still to do looks for damage by itself.
        if done and not Shards(self.directory.root, stage).damaged():
            logger.info(f"{stage}: done before")
            return
        logger.info(f"{stage}: starting")
        with self.directory.stage(stage):
            module, _, function = WORK[stage].partition(".")
            getattr(import_module(f"crosspatch.experiment.{module}"), function)(self.work)


def run_experiment(experiment: Experiment, out: Path | str, *stages: str) -> RunDirectory:
    """Do stages of an experiment and what they need, all where none is named; gives the run directory.

    What is done in the folder `out` is not done again; what was stopped resumes. Progress is logged. Raises
    UsageError for settings that cannot be used, before anything runs, and for a folder of another experiment.
    """
    unknown = [stage for stage in stages if stage not in WORK]
    if unknown:
        raise UsageError(f"got the stage {unknown[0]}, expected one of {', '.join(WORK)}")
    run = ExperimentRun.start(experiment, Path(out), stages or STAGES)
    run.run(*stages)
    return run.directory


def _with_needs(stages: Sequence[str], experiment: Experiment) -> list[str]:
    """The stages and what they need, in their order; no problems are made where models and prompts are given."""
    given = experiment.patch.names_prompts and not experiment.makes_the_child
    needed = {
        before
        for stage in stages
        for before in NEEDS[stage]
        if not (given and before == "data" and stage in FROM_PROMPTS)
    }
    return [stage for stage in WORK if stage in stages or stage in needed]
