"""The finetune stage: the clean model in its place, and its children trained or given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crosspatch.config import Experiment, Finetune, Training
from crosspatch.experiment.work import Work
from crosspatch.tables import TRAINING

if TYPE_CHECKING:
    from crosspatch.training.examples import Example

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


def make_children(work: Work) -> None:
    """Put the clean model in its place, and train or place the others."""
    from crosspatch.models.loading import Checkpoint

    settings = work.experiment.models
    place_clean(work)
    if settings.corrupted is not None:
        given = Checkpoint.named(settings.corrupted)
        given.place(work.directory.model("corrupted"), work.experiment.seed + 1)
        work.directory.note_model("corrupted", {"name": given.description})
        work.say(f"finetune: the corrupted model is given, {settings.corrupted}")
    for child in children(work.experiment):
        make_child(work, child)


def place_clean(work: Work) -> None:
    """Put the clean model where every stage looks for it."""
    from crosspatch.models.loading import Checkpoint

    clean = Checkpoint.named(work.experiment.models.clean)
    clean.place(work.directory.model("clean"), work.experiment.seed)
    work.directory.note_model("clean", {"name": clean.description})


def make_child(work: Work, child: Child) -> None:
    """Train one child, unless it is there; its checkpoints go when it is saved."""
    if not work.directory.model(child.name).exists():
        announce(work, child.name, child.settings)
        train_child(work, child)
    # Only now: until the model is saved they are all there is of it.
    work.directory.remove_checkpoints(child.name)
    origin = f"{work.experiment.models.clean}, fine-tuned on {child.trained_on}, seed {child.seed}"
    work.directory.note_model(child.name, {"name": origin})


def train_child(work: Work, child: Child) -> None:
    """Train one child on its examples; called by every process that trains along."""
    from crosspatch.training.examples import Example, show_target

    prompts = work.prompts
    problems = work.directory.problems(child.split)[: child.settings.examples]
    train, validation = (
        [Example.of(problem, prompts, child.settings.max_tokens) for problem in split]
        for split in (problems, work.directory.problems("validation"))
    )
    target = show_target(problems[0], train[0], prompts)
    work.say(f"{child.name} is trained on completions alone, for example:\n{target}")
    train_together(work, child.name, child.settings, child.seed, train, validation)


def announce(work: Work, training: str | None, settings: Training | None = None) -> None:
    """Tell the processes that train along what comes next; None: nothing more."""
    from crosspatch.models.placement import pick_device
    from crosspatch.training import processes

    if settings is not None:
        # Decided now: the others look it up in the record.
        work.precision(settings)
        _ = work.prompts
    processes.announce(training, cpu=pick_device(work.experiment.models.device) == "cpu")


def train_together(
    work: Work,
    name: str,
    settings: Training,
    seed: int,
    train: list[Example],
    validation: list[Example],
    begin: Callable[[Any], Any] | None = None,
) -> None:
    """Train the clean model on examples and save it as models/`name`, with all processes that there are.

    `begin` makes of the clean model what is trained; None: what `settings.method` says. The leading process tells the
    others what comes; these call this too, and save nothing.
    """
    from crosspatch.models.loading import Checkpoint
    from crosspatch.models.placement import pick_device
    from crosspatch.models.saving import save_trained
    from crosspatch.training import processes
    from crosspatch.training.sft import Files, finetune

    device = pick_device(work.experiment.models.device)
    settings = work.precision(settings)
    if processes.count() > 1:
        at_once, accumulated = processes.shared(settings)
        work.say(f"{name}: {processes.count()} processes share each step, {at_once} x {accumulated} examples each")
    clean = Checkpoint.named(str(work.directory.model("clean")))
    # Several processes have a GPU each; the training puts the model where it belongs.
    model = clean.model(settings.weights, device if processes.count() == 1 else "cpu", work.experiment.seed)
    if settings.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        # A frozen embedding gives outputs without a gradient, from which nothing could be recomputed.
        model.enable_input_require_grads()
    model = begin(model) if begin is not None else _as_trained(model, settings, seed)
    directory = work.directory
    files = Files(directory.checkpoints(name), directory.path(TRAINING), directory.tensorboard(name))
    trained = finetune(model, train, validation, settings, files, run=name, seed=seed, device=device)
    if processes.leads():
        save_trained(
            model, clean.tokenizer(), work.experiment.models.clean, work.directory.model(name), trained.weights
        )
    processes.wait(cpu=device == "cpu")


def _as_trained(model: Any, settings: Training, seed: int) -> Any:
    from crosspatch.models.adapter import with_adapter

    return with_adapter(model, settings.lora_rank, settings.lora_alpha, seed) if settings.method == "lora" else model
