"""The context of every stage: the experiment, its run directory, and the models and problems in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date as Date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from crosspatch.config import DOMAINS, Engine, Experiment, Finetune, Models
from crosspatch.data.problem import Problem
from crosspatch.errors import UsageError
from crosspatch.storage.lock import RunLock
from crosspatch.storage.run import RunDirectory

if TYPE_CHECKING:
    from crosspatch.models.chat import PromptFormat
    from crosspatch.models.loading import Checkpoint
    from crosspatch.models.pair import ModelPair


@dataclass(frozen=True)
class RunContext:
    """One experiment and its run directory.

    Workers do not write the record; what they learn about each model is kept in `facts`. `checked` has the engine
    that was chosen for the pair, and the longest text, in tokens, for which it was chosen, by the names of the patches.
    """

    experiment: Experiment
    directory: RunDirectory
    is_worker: bool = False
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    checked: dict[tuple[str, ...], tuple[Engine, int]] = field(default_factory=dict, init=False)

    @cached_property
    def lock(self) -> RunLock:
        """The lock of the run directory."""
        return RunLock(self.directory.root)

    def checkpoint(self, name: str) -> Checkpoint:
        """A model of the run directory: the clean one or a child of it."""
        from crosspatch.models.loading import Checkpoint

        return Checkpoint.named(str(self.directory.model(name)))

    @cached_property
    def pair(self) -> ModelPair:
        """The clean and the corrupted model, loaded when they are first needed."""
        return self._load_pair("corrupted")

    def pair_with(self, child: str) -> ModelPair:
        """The clean model and a child of it; children other than the corrupted model are loaded at each call."""
        return self.pair if child == "corrupted" else self._load_pair(child)

    def _load_pair(self, child: str) -> ModelPair:
        clean, corrupted = (str(self.directory.model(name)) for name in ("clean", child))
        pair = load_pair(self.experiment.models, clean, corrupted, self.experiment.seed, self.prompts)
        self._record("clean", pair.clean)
        self._record(child, pair.corrupted)
        return pair

    def model(self, child: str) -> Any:
        """Load a child of the clean model, and record its fingerprint."""
        models, seed = self.experiment.models, self.experiment.seed
        placed, device = _placement(models), models.corrupted_device or models.device
        if models.share_base and device == models.device:
            clean = self.checkpoint("clean")
            model = self.checkpoint(child).beside(self.pair.clean, clean, **placed, seed=seed)
        else:
            model = self.checkpoint(child).model(**{**placed, "device": device}, seed=seed)
        self._record(child, model)
        return model

    def _record(self, name: str, model: Any) -> None:
        from crosspatch.models.blocks import text_config
        from crosspatch.models.placement import device_names, quantization_of
        from crosspatch.models.weights import fingerprint

        self.facts[name] = {
            "fingerprint": fingerprint(model),
            "dtype": self.experiment.models.dtype,
            "quantization": quantization_of(model),
            "device": device_names(model),
            "layers": int(text_config(model).num_hidden_layers),
        }
        if not self.is_worker:
            self.directory.note_model(name, self.facts[name])

    @cached_property
    def prompts(self) -> PromptFormat:
        """The prompt format of both models; no weights are read for it.

        Raises UsageError if the models' tokenizers lead to another chat template than when the run began.
        """
        from crosspatch.models.chat import pair_format, template_choice

        models, clean = self.experiment.models, self.checkpoint("clean").tokenizer()
        corrupted = clean if self.experiment.makes_the_child else self.checkpoint("corrupted").tokenizer()
        found = pair_format(clean, corrupted, models.chat_template, system=models.system, date=self.date)
        choice = template_choice(found, clean)
        if (before := self.decided("chat_template", lambda: choice)) != choice:
            raise UsageError(
                f"this run began with chat_template {before}, but the models' tokenizers now give {choice}; give "
                "--out a new folder"
            )
        return found

    @property
    def date(self) -> Date:
        """The date that chat templates print: the day on which the run began."""
        return Date.fromisoformat(self.directory.decisions()["date"])

    def precision(self, settings: Finetune) -> Finetune:
        """Training settings in which the run's precision replaces auto."""
        if settings.precision != "auto":
            return settings
        from crosspatch.models.placement import pick_device
        from crosspatch.models.throughput import trains_faster_in_bf16

        device = pick_device(self.experiment.models.device)
        precision = self.decided("training_precision", lambda: "bf16" if trains_faster_in_bf16(device) else "float32")
        return settings.model_copy(update={"precision": precision})

    def decided(self, name: str, decide: Callable[[], str]) -> str:
        """A decision for the whole run: read from the record, or made and recorded now."""
        found = self.directory.decisions().get(name)
        if found is None:
            found = decide()
            if not self.is_worker:
                self.directory.note_decision(name, found)
        return found

    @cached_property
    def config(self) -> Any:
        """The clean model's (text) configuration; no weights are read for it."""
        return self.checkpoint("clean").config().get_text_config(decoder=True)

    @cached_property
    def problems(self) -> dict[str, list[Problem]]:
        """The held-out problems by domain, and the given prompts."""
        return {split: self.directory.problems(split) for split in (*DOMAINS, "prompts")}

    @property
    def questions(self) -> dict[str, str]:
        """The questions that models are asked, by prompt_id."""
        return {problem.id: problem.question for domain in DOMAINS for problem in self.problems[domain]}

    @property
    def patched_problems(self) -> list[Problem]:
        """The problems that are patched: those given, or the first of each domain."""
        return chosen_problems(self.problems, {domain: getattr(self.experiment.patch, domain) for domain in DOMAINS})


def chosen_problems(problems: dict[str, list[Problem]], counts: dict[str, int]) -> list[Problem]:
    """The given prompts, or the first `counts[domain]` problems of each domain."""
    if given := problems.get("prompts"):
        return given
    return [problem for domain in DOMAINS for problem in problems.get(domain, [])[: counts[domain]]]


def _placement(models: Models) -> dict[str, Any]:
    """The settings of the weights' devices and precision."""
    return models.model_dump(include={"dtype", "device", "device_map", "max_memory_gb", "quantization"})


def load_pair(models: Models, clean: str, corrupted: str, seed: int, prompts: PromptFormat | None = None) -> ModelPair:
    """Load two checkpoints as a pair with these settings, and with the prompt format `prompts` if it is given."""
    from crosspatch.models.pair import ModelPair

    settings = models.model_dump(exclude={"clean", "corrupted"})
    return ModelPair.load(clean, corrupted, **settings, prompts=prompts, seed=seed)
