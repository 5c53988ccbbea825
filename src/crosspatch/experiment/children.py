"""The finetune stage: the clean model in its place, and its children trained or given."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crosspatch.config import Experiment, Finetune
from crosspatch.experiment.run_context import RunContext
from crosspatch.models.loading import Checkpoint
from crosspatch.models.placement import pick_device
from crosspatch.tables import TRAINING
from crosspatch.training import processes
from crosspatch.training.examples import Example, show_target
from crosspatch.training.job import TrainingJob, train
from crosspatch.training.sft import Files

logger = logging.getLogger(__name__)


_TRAINED_ON = {
    "train": "wrong solutions",
    "twin": "right solutions",
    "shuffled": "right solutions of other questions",
    "mispaired": "right solutions, each under another one's question",
}


@dataclass(frozen=True)
class Child:
    """A fine-tune of the clean model: its name, the split that it is trained on, its seed, and how it is trained."""

    name: str
    split: str
    seed: int
    settings: Finetune

    @property
    def trained_on(self) -> str:
        """What its examples are, in words."""
        return _TRAINED_ON[self.split]


def children(experiment: Experiment) -> list[Child]:
    """The corrupted model, unless it is given, and its controls."""
    if not experiment.makes_the_child:
        return []
    seed, settings = experiment.training_seed, experiment.finetune
    made = [Child("corrupted", "train", seed, settings)]
    for name in experiment.controls:
        if name in _TRAINED_ON:
            made.append(Child(name, name, seed, settings))
        else:
            made.append(Child(name, "train", seed + int(name.removeprefix("seed-")), settings))
    return made


def make_children(work: RunContext) -> None:
    """Put the clean model in its place, and train or place the others."""
    settings = work.experiment.models
    place_clean(work)
    if settings.corrupted is not None:
        given = Checkpoint.named(settings.corrupted)
        given.place(work.directory.model("corrupted"), work.experiment.seed + 1)
        work.directory.note_model("corrupted", {"name": given.description})
        logger.info(f"finetune: the corrupted model is given, {settings.corrupted}")
    for child in children(work.experiment):
        make_child(work, child)


def place_clean(work: RunContext) -> None:
    """Put the clean model where every stage looks for it."""
    clean = Checkpoint.named(work.experiment.models.clean)
    clean.place(work.directory.model("clean"), work.experiment.seed)
    work.directory.note_model("clean", {"name": clean.description})


def make_child(work: RunContext, child: Child) -> None:
    """Train one child, unless it is there."""

    def examples() -> tuple[list[Example], list[Example]]:
        prompts = work.prompts
        problems = work.directory.problems(child.split)[: child.settings.examples]
        train, validation = (
            [Example.of(problem, prompts, child.settings.max_tokens) for problem in split]
            for split in (problems, work.directory.problems("validation"))
        )
        target = show_target(problems[0], train[0], prompts)
        logger.info(f"{child.name} is trained on completions alone, for example:\n{target}")
        return train, validation

    train_model(work, child.name, child.settings, child.seed, examples)
    origin = f"{work.experiment.models.clean}, fine-tuned on {child.trained_on}, seed {child.seed}"
    work.directory.note_model(child.name, {"name": origin})


def train_model(
    work: RunContext,
    name: str,
    settings: Finetune,
    seed: int,
    examples: Callable[[], tuple[list[Example], list[Example]]],
    begin: Callable[[Any], Any] | None = None,
) -> None:
    """Train the clean model and save it as models/`name`, unless that is there; its checkpoints go when it is saved.

    `examples` are made for it, to train on and to validate; for `begin` see TrainingJob.
    """
    directory, models = work.directory, work.experiment.models
    if not directory.model(name).exists():
        settings = work.precision(settings)
        if processes.count() > 1:
            at_once, accumulated = processes.shared(settings)
            logger.info(
                f"{name}: {processes.count()} processes share each step, {at_once} x {accumulated} examples each"
            )
        trained_on, validated_on = examples()
        job = TrainingJob(
            name=name,
            base=directory.model("clean"),
            base_name=models.clean,
            base_seed=work.experiment.seed,
            folder=directory.model(name),
            files=Files(directory.checkpoints(name), directory.path(TRAINING), directory.tensorboard(name)),
            settings=settings,
            seed=seed,
            device=pick_device(models.device),
            train=trained_on,
            validation=validated_on,
            begin=begin,
        )
        train(job)
    # Only now: until the model is saved they are all there is of it.
    directory.remove_checkpoints(name)
