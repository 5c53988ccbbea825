"""What every stage works with: the experiment, its run directory, and the pair and problems read from there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date as Date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from crosspatch.config import DOMAINS, Experiment, Finetune, Models
from crosspatch.data.problem import Problem
from crosspatch.errors import UsageError
from crosspatch.storage.lock import RunLock
from crosspatch.storage.run import RunDirectory

if TYPE_CHECKING:
    from crosspatch.models.chat import PromptFormat
    from crosspatch.models.pair import ModelPair


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """One experiment and its run directory.

    A worker that is one of several does not write the record: what it would note is left in `facts`, by model.
    """

    experiment: Experiment
    directory: RunDirectory
    one_of_several: bool = False
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def lock(self) -> RunLock:
        """Who may work in the run directory."""
        return RunLock(self.directory.root)

    @cached_property
    def pair(self) -> ModelPair:
        """The clean and the corrupted model, loaded when they are first needed."""
        return self.pair_with("corrupted")

    def pair_with(self, child: str) -> ModelPair:
        """The clean model and a child of it, loaded from the run directory; their fingerprints go into the record."""
        models = self.experiment.models
        first, second = (str(self.directory.model(name)) for name in ("clean", child))
        pair = load_pair(models, first, second, self.experiment.seed, self.prompts)
        self._note("clean", pair.clean)
        self._note(child, pair.corrupted)
        return pair

    def model(self, child: str) -> Any:
        """A child of the clean model alone, loaded from the run directory; its fingerprint goes into the record."""
        from crosspatch.models.loading import Checkpoint

        models, seed = self.experiment.models, self.experiment.seed
        first, second = (Checkpoint.named(str(self.directory.model(name))) for name in ("clean", child))
        if models.share_base and models.corrupted_device in (None, models.device):
            model = second.beside(self.pair.clean, first, **_placed(models), seed=seed)
        else:
            placed = {**_placed(models), "device": models.corrupted_device or models.device}
            model = second.model(**placed, seed=seed)
        self._note(child, model)
        return model

    def _note(self, name: str, model: Any) -> None:
        from crosspatch.models.blocks import text_config
        from crosspatch.models.placement import device_names, quantization_of
        from crosspatch.models.weights import fingerprint

        facts: dict[str, Any] = {"fingerprint": fingerprint(model), "dtype": self.experiment.models.dtype}
        facts |= {"quantization": quantization_of(model), "device": device_names(model)}
        self.facts[name] = {**facts, "layers": int(text_config(model).num_hidden_layers)}
        if not self.one_of_several:
            self.directory.note_model(name, self.facts[name])

    @cached_property
    def prompts(self) -> PromptFormat:
        """How questions are put to the models; no weights are read for it.

        Raises UsageError if the models' tokenizers lead to another choice of chat template than when the run began.
        """
        from crosspatch.models.chat import template_choice
        from crosspatch.models.loading import Checkpoint

        clean = Checkpoint.named(str(self.directory.model("clean"))).tokenizer()
        given = not self.experiment.makes_the_child
        corrupted = Checkpoint.named(str(self.directory.model("corrupted"))).tokenizer() if given else clean
        found = prompt_format(self.experiment.models, clean, corrupted, self.date, logger.warning)
        choice = template_choice(found, clean)
        if (before := self.decided("chat_template", lambda: choice)) != choice:
            raise UsageError(
                f"this run began with chat_template {before}, and the models' tokenizers now lead to {choice}; give "
                "--out a new folder"
            )
        return found

    @property
    def date(self) -> Date:
        """The day that chat templates print."""
        return Date.fromisoformat(self.directory.decisions()["date"])

    def precision(self, settings: Finetune) -> Finetune:
        """Training settings with the precision that was decided for the whole run in place of auto."""
        if settings.precision != "auto":
            return settings
        from crosspatch.models.placement import pick_device
        from crosspatch.models.throughput import trains_faster_in_bf16

        device = pick_device(self.experiment.models.device)
        precision = self.decided("training_precision", lambda: "bf16" if trains_faster_in_bf16(device) else "float32")
        return settings.model_copy(update={"precision": precision})

    def decided(self, name: str, decide: Callable[[], str]) -> str:
        """A decision from the record; one that is not there yet is made and recorded."""
        found = self.directory.decisions().get(name)
        if found is None:
            found = decide()
            if not self.one_of_several:
                self.directory.note_decision(name, found)
        return found

    @cached_property
    def config(self) -> Any:
        """The clean model's (text) configuration; no weights are read for it."""
        from crosspatch.models.loading import Checkpoint

        return Checkpoint.named(str(self.directory.model("clean"))).config().get_text_config(decoder=True)

    @cached_property
    def problems(self) -> dict[str, list[Problem]]:
        """What may be asked, by domain, and the given prompts."""
        return {split: self.directory.problems(split) for split in (*DOMAINS, "prompts")}

    @property
    def questions(self) -> dict[str, str]:
        """What models are asked, by prompt_id."""
        return {problem.id: problem.question for domain in DOMAINS for problem in self.problems[domain]}

    @property
    def patched_problems(self) -> list[Problem]:
        """The problems that are patched: those given, or the first of each domain."""
        if self.problems["prompts"]:
            return self.problems["prompts"]
        chosen: list[Problem] = []
        for domain in DOMAINS:
            chosen += self.problems[domain][: getattr(self.experiment.patch, domain)]
        return chosen


def prompt_format(
    models: Models,
    clean: Any,
    corrupted: Any,
    date: Date | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> PromptFormat:
    """How questions are put to two models, by their tokenizers and as the settings say."""
    from crosspatch.models.chat import pair_format

    return pair_format(clean, corrupted, models.chat_template, system=models.system, date=date, warn=warn)


def _placed(models: Models) -> dict[str, Any]:
    """Where and how weights are kept."""
    return {
        "dtype": models.dtype,
        "device": models.device,
        "device_map": models.device_map,
        "max_memory_gb": models.max_memory_gb,
        "quantization": models.quantization,
    }


def load_pair(models: Models, clean: str, corrupted: str, seed: int, prompts: PromptFormat | None = None) -> ModelPair:
    """Two checkpoints as a pair, read and asked as the settings say, or asked in the format `prompts`."""
    from crosspatch.models.pair import ModelPair

    return ModelPair.load(
        clean,
        corrupted,
        **_placed(models),
        corrupted_device=models.corrupted_device,
        share_base=models.share_base,
        system=models.system,
        chat_template=models.chat_template,
        prompts=prompts,
        seed=seed,
    )
