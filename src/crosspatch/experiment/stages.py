"""The stages of one experiment in their order, each resumed from the run directory.

    data -> finetune -> patch -> references -> evaluate -> controls, mistakes -> report
    data -> teach           data -> search           finetune -> localise; references -> lenses

A finished stage is not run again; an interrupted one resumes with the first part that is missing. A whole run makes its
report as soon as one prompt is patched, and again whenever there is more to see.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path

from crosspatch.config import Experiment
from crosspatch.errors import UsageError
from crosspatch.experiment.checks import (
    check,
    check_finetuning,
    check_judge,
    check_lenses,
    check_search,
    check_teaching,
    check_training,
)
from crosspatch.experiment.problems import all_problems, given_examples, keep_prompts
from crosspatch.experiment.run_context import RunContext
from crosspatch.files import checksum, remove_half_written
from crosspatch.storage.lock import RunLock
from crosspatch.storage.run import RunDirectory
from crosspatch.storage.shards import Shards

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """What a stage does, the stages that it needs, and the checks of its settings.

    `runs` names a function or sharded stage and its module in this folder. The module is imported when the stage
    begins: most import torch, which takes seconds, and problems and reports need none. `made_problems` is false
    for a stage that can do with given models and prompts.
    """

    runs: str
    does: str
    needs: tuple[str, ...] = ("data", "finetune")
    checks: tuple[Callable[[Experiment], None], ...] = ()
    made_problems: bool = True


_ALL_CHILDREN = ("data", "finetune", "references")
ALL = {
    "data": Stage("problems.make_problems", "generate problems and their solutions", ()),
    "teach": Stage(
        "teaching.teach",
        "train the clean model on right solutions",
        ("data",),
        (check_teaching, check_training, check_judge),
    ),
    "search": Stage(
        "search.search",
        "train and compare variants of the fine-tune",
        ("data",),
        (check_search, check_training, check_judge),
    ),
    "finetune": Stage(
        "children.make_corrupted",
        "fine-tune the clean model on wrong solutions",
        ("data",),
        (check_finetuning,),
        made_problems=False,
    ),
    "patch": Stage(
        "patching.PatchStage",
        "patch activations from one model into the other while text is generated",
        checks=(check_judge,),
        made_problems=False,
    ),
    "references": Stage(
        "children.make_references",
        "fine-tune further children of the clean model, for comparison",
        checks=(check_finetuning,),
        made_problems=False,
    ),
    "evaluate": Stage("answering.evaluate", "let all models answer questions", _ALL_CHILDREN, (check_judge,)),
    "controls": Stage(
        "forced_texts.ControlsStage",
        "patch other activations at the same sites",
        (*_ALL_CHILDREN, "patch"),
        made_problems=False,
    ),
    "mistakes": Stage(
        "forced_texts.MistakesStage", "score the patches along wrong solutions", ("data", "finetune", "patch")
    ),
    "localise": Stage("localising.localise", "find the top blocks, MLPs and heads", made_problems=False),
    "lenses": Stage("lenses.measure_lenses", "compare weights and activations", _ALL_CHILDREN, (check_lenses,)),
    # It needs no other stage: it reports the results so far.
    "report": Stage("page.make_report", "compute intervals and claims, and write the report", ()),
}
# The stages of `run`; the others run only by name.
STAGES = ("data", "finetune", "patch", "references", "evaluate", "controls", "mistakes", "report")
# A whole run updates its report after these stages. An open page reloads itself every `_RELOAD` seconds.
_SHOWN, _RELOAD = ("patch", "evaluate", "controls"), 10


@dataclass(frozen=True)
class ExperimentRun:
    """One experiment in its run directory."""

    context: RunContext

    @classmethod
    def start(cls, experiment: Experiment, out: Path, stages: Sequence[str] = STAGES) -> ExperimentRun:
        """Check all that can be checked without loading a model, then make the run directory or resume it.

        `stages` are the stages to run. For `data` alone no checkpoint has to exist; a finished stage is not checked.
        """
        RunDirectory.check(out, experiment)
        directory = RunDirectory(out)
        needed, exists = _with_needs(stages, experiment), directory.record_file.is_file()
        to_do = [stage for stage in needed if not (exists and directory.done(stage))]
        if "data" in to_do:
            all_problems(experiment)
        elif "data" in needed:
            given_examples(experiment)
        if list(stages) != ["data"]:
            check(experiment)
        for stage in to_do:
            for refuse in ALL[stage].checks:
                refuse(experiment)
        if exists:
            keep_prompts(experiment, directory)
        else:
            # Several slices may begin at once: one of them makes the record.
            out.mkdir(parents=True, exist_ok=True)
            with RunLock(out).alone(wait=True):
                keep_prompts(experiment, RunDirectory.start(out, experiment))
        _check_files(directory)
        return cls(RunContext(experiment, directory))

    @property
    def directory(self) -> RunDirectory:
        """The run directory."""
        return self.context.directory

    def run(self, *stages: str) -> None:
        """Run stages, after the stages that they need; all `STAGES` if none is named.

        Raises UsageError if another command is working in the run directory.
        """
        with self.context.lock.alone():
            try:
                self._run_all(_with_needs(stages or STAGES, self.context.experiment))
            finally:
                # With the lock held alone, no worker is left, here or on another machine.
                remove_half_written(self.directory.root)

    def run_slice(self, number: int, of: int) -> None:
        """Compute slice `number`, from 1, of `of` slices of the sweep, while other processes compute the others.

        The first process runs the earlier stages and plans the sweep. When all slices are done, `run`
        completes the stage.
        """
        from crosspatch.experiment.patching import PatchStage
        from crosspatch.experiment.sharding import prepare, work_off_slice

        stage = PatchStage(self.context)
        if not stage.shards.planned:
            with self.context.lock.alone(wait=True):
                self._run_all([name for name in _with_needs(["patch"], self.context.experiment) if name != "patch"])
                prepare(stage)
        work_off_slice(stage, number, of)
        logger.info(f"patch: slice {number} of {of} is done, {len(stage.shards.left())} shards are left")

    def _run_all(self, stages: Sequence[str]) -> None:
        start = time.monotonic()
        for number, name in enumerate(stages, start=1):
            # A report is always made again, as there may be new results. A stage that is not done looks for damaged
            # shards itself.
            if name != "report" and self.directory.done(name) and not Shards(self.directory.root, name).damaged():
                logger.info(f"{name}: done before")
                continue
            elapsed = timedelta(seconds=round(time.monotonic() - start))
            logger.info(f"{name} (stage {number} of {len(stages)}, {elapsed} elapsed): {ALL[name].does}")
            with self.directory.stage(name):
                module, _, attribute = ALL[name].runs.partition(".")
                runs = getattr(import_module(f"crosspatch.experiment.{module}"), attribute)
                if isinstance(runs, type):
                    from crosspatch.experiment.executors import carry_out

                    show = self._show if name == "patch" and "report" in stages else None
                    carry_out(runs(self.context), show)
                else:
                    runs(self.context)
            if name in _SHOWN and "report" in stages:
                self._show()

    def _show(self) -> None:
        """Make the report of the results so far."""
        from crosspatch.experiment.page import write_run_report

        write_run_report(self.directory, figures=False, refresh=_RELOAD)
        logger.info(f"the results so far: {self.directory.report}")


def run_experiment(experiment: Experiment, out: Path | str, *stages: str) -> RunDirectory:
    """Run stages of an experiment and the stages they need (all if none is named); returns the run directory.

    Finished stages in the folder `out` are not run again; an interrupted one resumes. Progress is logged. Raises
    UsageError for settings that cannot be used, before anything runs, and for a folder of another experiment.
    """
    unknown = [stage for stage in stages if stage not in ALL]
    if unknown:
        raise UsageError(f"got the stage {unknown[0]}, expected one of {', '.join(ALL)}")
    run = ExperimentRun.start(experiment, Path(out), stages or STAGES)
    run.run(*stages)
    return run.directory


def _check_files(directory: RunDirectory) -> None:
    """Raise UsageError if the problems of the run have changed since they were generated."""
    for split, before in directory.record().get("data", {}).items():
        path = directory.problems_file(split)
        if not path.is_file() or checksum(path.read_bytes()) != before:
            raise UsageError(f"{path} has changed since the run made it; give --out a new folder, or restore the file")


def _with_needs(stages: Sequence[str], experiment: Experiment) -> list[str]:
    """The stages in order, each with the stages that it needs; given models and prompts need no data stage.

    Without further children there is nothing to train for comparison.
    """
    given = experiment.patch.names_prompts and not experiment.makes_the_child
    needed = set(stages)
    for name in stages:
        needed |= {before for before in ALL[name].needs if before != "data" or ALL[name].made_problems or not given}
    if not experiment.controls:
        needed.discard("references")
    return [stage for stage in ALL if stage in needed]
