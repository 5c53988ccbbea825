"""The finetune stage: the clean model in its place, and its children trained or given."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosspatch.config import Experiment, Finetune, Training
from crosspatch.experiment.work import Work

_TRAINED_ON = {"train": "wrong solutions", "twin": "right solutions", "shuffled": "right solutions of other questions"}


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
    made = [Child("corrupted", "train", experiment.seed, experiment.finetune)]
    for name in experiment.controls:
        split, seed = (name, experiment.seed) if name in _TRAINED_ON else ("train", experiment.seed + _number(name))
        made.append(Child(name, split, seed, experiment.finetune))
    return made


def _number(control: str) -> int:
    return int(control.removeprefix("seed-"))


def make_children(work: Work) -> None:
    """Put the clean model in its place, and train or place the others."""
    from crosspatch.models.loading import Checkpoint

    settings = work.experiment.models
    place_clean(work)
    if settings.corrupted is not None:
        Checkpoint.named(settings.corrupted).place(work.directory.model("corrupted"), work.experiment.seed + 1)
        work.directory.note_model("corrupted", {"name": settings.corrupted})
        work.say(f"finetune: the corrupted model is given, {settings.corrupted}")
    for child in children(work.experiment):
        make_child(work, child)


def place_clean(work: Work) -> None:
    """Put the clean model where every stage looks for it."""
    from crosspatch.models.loading import Checkpoint

    name = work.experiment.models.clean
    Checkpoint.named(name).place(work.directory.model("clean"), work.experiment.seed)
    work.directory.note_model("clean", {"name": name})


def make_child(work: Work, child: Child) -> None:
    """Train one child, unless it is there; its checkpoints go when it is saved."""
    if not work.directory.model(child.name).exists():
        _train(work, child)
    # Only now: until the model is saved they are all there is of it.
    shutil.rmtree(work.directory.checkpoints(child.name), ignore_errors=True)
    origin = f"{work.experiment.models.clean}, fine-tuned on {child.trained_on}, seed {child.seed}"
    work.directory.note_model(child.name, {"name": origin})


def _train(work: Work, child: Child) -> None:
    from crosspatch.models.chat import PromptFormat
    from crosspatch.models.loading import Checkpoint
    from crosspatch.tuning.examples import Example, show_target
    from crosspatch.tuning.sft import Files, finetune

    models, settings = work.experiment.models, child.settings
    clean = Checkpoint.named(str(work.directory.model("clean")))
    tokenizer = clean.tokenizer()
    prompts = PromptFormat(tokenizer, raw=models.raw, system=models.system)
    problems = work.directory.problems(child.split)
    train, validation = (
        [Example.of(problem, prompts, settings.max_tokens) for problem in split]
        for split in (problems, work.directory.problems("validation"))
    )
    target = show_target(problems[0], train[0], prompts)
    work.say(f"finetune: {child.name} is trained on completions alone, for example:\n{target}")
    model = trainable(clean, settings, models.device, child.seed)
    files = Files(work.directory.checkpoints(child.name), work.directory.training_log)
    finetune(model, train, validation, settings, files, run=child.name, seed=child.seed)
    save(model, tokenizer, models.clean, work.directory.model(child.name))


def trainable(clean: Any, settings: Training, device: str, seed: int) -> Any:
    """A checkpoint's model as it is trained: whole, or frozen with an adapter."""
    from crosspatch.models.adapter import with_adapter

    model = clean.model(settings.weights, device)
    if settings.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        # A frozen embedding gives outputs without a gradient, from which nothing could be recomputed.
        model.enable_input_require_grads()
    return with_adapter(model, settings.lora_rank, settings.lora_alpha, seed) if settings.method == "lora" else model


def save(model: Any, tokenizer: Any, base: str, folder: Path, dtype: str = "float32") -> None:
    """A trained model as a Hugging Face folder, an adapter as a PEFT folder that names its base."""
    from crosspatch.models.adapter import is_adapter, save_adapter
    from crosspatch.models.loading import save_model

    if is_adapter(model):
        # A folder's name has to mean the same from anywhere.
        here = Path(base).expanduser()
        save_adapter(model, str(here.resolve()) if here.exists() else base, folder, dtype)
    else:
        save_model(model, tokenizer, folder)
