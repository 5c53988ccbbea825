"""One fine-tune, from a saved base to a saved model: the way in which every model here is trained.

Where several processes were started together the leading one announces each job, and the others train along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosspatch.config import Finetune
from crosspatch.models.adapter import with_adapter
from crosspatch.models.loading import Checkpoint
from crosspatch.models.saving import save_trained
from crosspatch.training import processes
from crosspatch.training.examples import Example
from crosspatch.training.sft import Files, finetune


@dataclass(frozen=True)
class TrainingJob:
    """What is trained, on what, and where it goes.

    `base` is the folder of the model to begin with, of which an adapter's folder says `base_name`; `base_seed` is for
    random models. `begin` makes of it what is trained, and can be pickled; None: what `settings.method` says.
    """

    name: str
    base: Path
    base_name: str
    base_seed: int
    folder: Path
    files: Files
    settings: Finetune
    seed: int
    device: str
    train: list[Example]
    validation: list[Example]
    begin: Callable[[Any], Any] | None = None

    def run(self) -> None:
        """Train with all processes that there are, which have to call this too, and let the leading one save."""
        settings, base = self.settings, Checkpoint.named(str(self.base))
        # Several processes have a GPU each; the training puts the model where it belongs.
        model = base.model(settings.weights, self.device if processes.count() == 1 else "cpu", self.base_seed)
        if settings.recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            # A frozen embedding gives outputs without a gradient, from which nothing could be recomputed.
            model.enable_input_require_grads()
        if self.begin is not None:
            model = self.begin(model)
        elif settings.method == "lora":
            model = with_adapter(model, settings.lora_rank, settings.lora_alpha, self.seed)
        trained = finetune(
            model,
            self.train,
            self.validation,
            settings,
            self.files,
            run=self.name,
            seed=self.seed,
            device=self.device,
        )
        if processes.leads():
            save_trained(model, base.tokenizer(), self.base_name, self.folder, trained.weights)
        processes.wait(cpu=self.device == "cpu")


def train(job: TrainingJob) -> None:
    """Run a job in the leading process, with those that train along."""
    processes.announce(job, cpu=job.device == "cpu")
    job.run()


def train_along(*, cpu: bool) -> None:
    """What every other process does: run each job that is announced, until there is none."""
    while (job := processes.announced(cpu=cpu)) is not None:
        job.run()
