"""The stages finetune and references: the clean model in the run directory, and its children, trained or given."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from crosspatch.config import Experiment, Finetune
from crosspatch.experiment.run_context import RunContext
from crosspatch.models.loading import Checkpoint
from crosspatch.models.placement import pick_device
from crosspatch.training import processes
from crosspatch.training.examples import Example, show_target
from crosspatch.training.sft import remove_checkpoints, train_checkpoint

logger = logging.getLogger(__name__)


_TRAINED_ON = {
    "train": "wrong solutions",
    "twin": "right solutions",
    "shuffled": "right solutions of other questions",
    "mispaired": "right solutions, each under another one's question",
}
# Examples to train on and to validate on.
Split = tuple[list[Example], list[Example]]


@dataclass(frozen=True)
class Child:
    """A fine-tune of the clean model: its name, the split that it is trained on, its seed and settings."""

    name: str
    split: str
    seed: int
    settings: Finetune


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


def make_corrupted(context: RunContext) -> None:
    """Put the clean model into the run directory, and train or place the corrupted model."""
    place(context, "clean")
    if (given := context.experiment.models.corrupted) is not None:
        place(context, "corrupted")
        logger.info(f"finetune: the corrupted model is given, {given}")
    for child in children(context.experiment)[:1]:
        make_child(context, child)


def make_references(context: RunContext) -> None:
    """Train the other children, with which the corrupted model is compared."""
    for child in children(context.experiment)[1:]:
        make_child(context, child)


def place(context: RunContext, name: Literal["clean", "corrupted"]) -> None:
    """Put a given model into the run directory; a random corrupted model gets the clean model's seed plus 1."""
    models, seed = context.experiment.models, context.experiment.seed
    checkpoint = Checkpoint.named(getattr(models, name))
    checkpoint.place(context.directory.model(name), seed + (name == "corrupted"))
    context.directory.note_model(name, {"name": checkpoint.description})


def make_child(context: RunContext, child: Child) -> None:
    """Train one child, unless it is trained already."""

    def examples() -> Split:
        problems = context.directory.problems(child.split)[: child.settings.examples]
        train, validation = (
            [Example.of(problem, context.prompts, child.settings.max_tokens) for problem in split]
            for split in (problems, context.directory.problems("validation"))
        )
        target = show_target(problems[0], train[0], context.prompts)
        logger.info(f"{child.name} is trained on completions alone, for example:\n{target}")
        return train, validation

    train_model(context, child.name, child.settings, child.seed, examples)
    trained_on = f"fine-tuned on {_TRAINED_ON[child.split]}, seed {child.seed}"
    context.directory.note_model(child.name, {"name": f"{context.experiment.models.clean}, {trained_on}"})


def train_model(
    context: RunContext,
    name: str,
    settings: Finetune,
    seed: int,
    examples: Callable[[], Split],
    begin: Callable[[Any], Any] | None = None,
) -> None:
    """Train the clean model on `examples` and save it as models/`name`, unless that folder exists.

    `begin` is passed to `train_checkpoint`, so it must be picklable. The checkpoints are removed once the model is
    saved.
    """
    directory, models = context.directory, context.experiment.models
    if not directory.model(name).exists():
        settings = context.precision(settings)
        if (count := processes.count()) > 1:
            at_once, accumulated = processes.shared(settings)
            logger.info(f"{name}: {count} processes share each step, {at_once} x {accumulated} examples each")
        train, validation = examples()
        device = pick_device(models.device)
        job = partial(
            train_checkpoint,
            name=name,
            base=directory.model("clean"),
            base_name=models.clean,
            base_seed=context.experiment.seed,
            root=directory.root,
            train=train,
            validation=validation,
            settings=settings,
            seed=seed,
            device=device,
            begin=begin,
        )
        processes.announce(job, cpu=device == "cpu")
        job()
    remove_checkpoints(directory.root, name)
