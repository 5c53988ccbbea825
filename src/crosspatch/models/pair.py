"""A clean model and its corrupted child, loaded together and checked for compatibility."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date as Date
from typing import Any, TypeVar

import torch
from torch import nn

from crosspatch.config import ChatTemplate, DeviceMap, Direction, Quantization
from crosspatch.errors import UsageError
from crosspatch.html_repr import HtmlRepr, Table
from crosspatch.models.blocks import head_count, text_config
from crosspatch.models.chat import PromptFormat, pair_format, stop_tokens
from crosspatch.models.compatibility import Layers, check_checkpoints, check_configs, check_length, check_tokenizers
from crosspatch.models.loading import Checkpoint
from crosspatch.models.placement import device_names, quantization_of, small_denominator
from crosspatch.models.shared_base import unwrapped
from crosspatch.models.weights import fingerprint

T = TypeVar("T")


@dataclass(frozen=True)
class ModelPair:
    """Two models with the same architecture and dimensions that read the same tokens.

    `clean` is the base, `corrupted` its fine-tuned child; both are unmodified Hugging Face decoders and are put in
    evaluation mode. A PeftModel is replaced by the model that it wraps, with its adapter in place. `origins` are the
    names that the models were loaded by, for display. Raises UsageError if depth, width or vocabulary differ, or if
    two different models share modules.
    """

    clean: Any = field(repr=False)
    corrupted: Any = field(repr=False)
    prompts: PromptFormat = field(repr=False)
    origins: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        clean, corrupted = ({id(module) for module in model.modules()} for model in (self.clean, self.corrupted))
        if self.clean is not self.corrupted and clean & corrupted:
            # A hook on one model would act on both.
            raise UsageError(
                "the two models are made of the same modules, as after get_peft_model(base, …), which changes the base "
                "itself; give it a copy, get_peft_model(copy.deepcopy(base), …), or load the pair by names"
            )
        for name in ("clean", "corrupted"):
            object.__setattr__(self, name, unwrapped(getattr(self, name)))
        self.eval()
        check_configs(text_config(self.clean), text_config(self.corrupted))

    @classmethod
    def load(
        cls,
        clean: str,
        corrupted: str,
        *,
        dtype: str | torch.dtype = "float32",
        device: str = "auto",
        corrupted_device: str | None = None,
        device_map: DeviceMap | None = None,
        max_memory_gb: float | None = None,
        quantization: Quantization | None = None,
        share_base: bool = True,
        raw: bool = False,
        system: str | None = None,
        chat_template: ChatTemplate | None = None,
        date: Date | None = None,
        prompts: PromptFormat | None = None,
        layers: Layers = "all",
        seed: int = 0,
    ) -> ModelPair:
        """Load two checkpoints by name: a folder, a hub id, a PEFT adapter folder, a GGUF file.

        Compares configurations and tokenizers, and checks `layers` against the depth, before any weights are read.
        `raw`, `system`, `chat_template` and `date` define the prompt format (see chat.pair_format), unless `prompts` is
        given. With `share_base` an adapter of the clean model uses the clean model's weights; config.Models describes
        the other arguments. Raises UsageError.
        """
        first, second = Checkpoint.named(clean), Checkpoint.named(corrupted)
        _, own, other = check_checkpoints(first, second, layers)
        if prompts is None:
            prompts = pair_format(own, other, chat_template, raw=raw, system=system, date=date)
        options: dict[str, Any] = {
            "dtype": dtype,
            "device": device,
            "seed": seed,
            "device_map": device_map,
            "max_memory_gb": max_memory_gb,
            "quantization": quantization,
        }
        model = first.model(**options)
        # A random child of a random base needs other weights; an adapter's base is the same.
        options["seed"] = seed if second.kind == "adapter" else seed + 1
        if share_base and corrupted_device in (None, device):
            child = second.beside(model, first, **options)
        else:
            child = second.model(**{**options, "device": corrupted_device or device})
        return cls(model, child, prompts, (clean, corrupted))

    @classmethod
    def of(
        cls,
        clean: Any,
        corrupted: Any,
        tokenizer: Any,
        *,
        corrupted_tokenizer: Any = None,
        raw: bool = False,
        system: str | None = None,
        chat_template: ChatTemplate | None = None,
        date: Date | None = None,
    ) -> ModelPair:
        """Make a pair from two models in memory and their tokenizer; the corrupted model may have another tokenizer.

        The other arguments are those of `load`. Raises UsageError.
        """
        other = tokenizer if corrupted_tokenizer is None else corrupted_tokenizer
        if other is not tokenizer:
            check_tokenizers(tokenizer, other)
        prompts = pair_format(tokenizer, other, chat_template, raw=raw, system=system, date=date)
        return cls(clean, corrupted, prompts)

    def eval(self) -> None:
        """Put both models in evaluation mode: dropout would make results random."""
        for model in (self.clean, self.corrupted):
            model.eval()

    @property
    def names(self) -> tuple[str, str]:
        """The two models' names: where the models were loaded from, if known."""
        clean, corrupted = self.origins or (model.name_or_path for model in (self.clean, self.corrupted))
        return clean or "a model in memory", corrupted or "a model in memory"

    @property
    def n_layers(self) -> int:
        """The number of blocks in each model."""
        return int(text_config(self.clean).num_hidden_layers)

    @property
    def n_heads(self) -> int:
        """The number of query heads in each block; 0 if the models have no attention."""
        return head_count(text_config(self.clean))

    @property
    def small_denominator(self) -> float:
        """In logits: if the models' ΔLs are closer than this in their precision, CTS has no meaning."""
        return max(map(small_denominator, (self.clean, self.corrupted)))

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens that end a text of either model."""
        return stop_tokens((self.clean, self.corrupted), self.prompts)

    def target_and_source(self, direction: Direction) -> tuple[nn.Module, nn.Module]:
        """Return (target, source): the model that runs, and the model whose activations are patched in."""
        return by_direction(direction, self.clean, self.corrupted)

    def encode(self, question: str, max_new_tokens: int = 0) -> list[int]:
        """Return the tokens of a question, which are the same for both models.

        Raises UsageError if prompt plus `max_new_tokens` exceeds the models' context length.
        """
        tokens = self.prompts.encode(question)
        self.check_length(len(tokens), max_new_tokens)
        return tokens

    def check_length(self, prompt_tokens: int, max_new_tokens: int) -> None:
        """Raise UsageError if prompt plus `max_new_tokens` exceeds the models' context length."""
        check_length(text_config(self.clean), prompt_tokens, max_new_tokens)

    def _repr_html_(self) -> str:
        return _html_repr(self).html


def by_direction(direction: Direction, one: T, other: T) -> tuple[T, T]:
    """Convert values for (clean, corrupted) to values for (target, source), or the reverse.

    Only this function converts by direction. Both conversions are the same: repair exchanges the two values.
    """
    return (one, other) if direction == "corrupt" else (other, one)


def _html_repr(pair: ModelPair) -> HtmlRepr:
    """Describe both models: names, fingerprints, precision and device, architecture and dimensions."""
    config = text_config(pair.clean)
    models = (pair.clean, pair.corrupted)
    prints = [fingerprint(model) for model in models]
    each = Table(
        ("", "clean", "corrupted"),
        [
            ("from", *pair.names),
            ("fingerprint", *prints),
            ("precision", *(_precision(model) for model in models)),
            ("device", *(device_names(model) for model in models)),
        ],
        note="The two have the same weights: nothing can be recovered." if prints[0] == prints[1] else "",
    )
    heads = f"{pair.n_heads or 'no'} heads a block"
    shared = getattr(config, "num_key_value_heads", None) or pair.n_heads
    if shared != pair.n_heads:
        heads += f", {shared} of keys and values"
    system = f", system turn {pair.prompts.system!r}" if pair.prompts.system else ""
    facts = [
        ("architecture", type(pair.clean).__name__),
        ("shape", f"{pair.n_layers} layers (0 to {pair.n_layers - 1}), {heads}, width {config.hidden_size:,}"),
        ("vocabulary", f"{config.vocab_size:,} tokens"),
        ("a question is read", f"as a user turn{system}" if pair.prompts.uses_template else "as it stands"),
    ]
    layers = ", ".join(map(str, sorted({pair.n_layers // 3, 2 * pair.n_layers // 3, pair.n_layers - 1})))
    hints = [f'crosspatch.patch(pair, "Solve for x: 5x + 3 = 18", layers=[{layers}])']
    return HtmlRepr("A pair of models", facts, [each], hints)


def _precision(model: Any) -> str:
    precision, quantization = str(model.dtype).removeprefix("torch."), quantization_of(model)
    return precision if quantization is None else f"{precision}, linear layers in {quantization}"
