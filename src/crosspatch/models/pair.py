"""A clean model and its corrupted child, loaded together and checked to fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date as Date
from typing import Any, Literal, SupportsIndex

import torch
from torch import nn

from crosspatch.card import Card, Table
from crosspatch.config import ChatTemplate, DeviceMap, Direction, Quantization, whole_numbers
from crosspatch.errors import UsageError
from crosspatch.models.blocks import text_config
from crosspatch.models.chat import PromptFormat, pair_format, stop_tokens
from crosspatch.models.loading import Checkpoint
from crosspatch.models.placement import device_names, quantization_of, small_denominator
from crosspatch.models.shared_base import unwrapped
from crosspatch.models.weights import fingerprint

# Covers words, signs, digits, unicode and white space: tokenizers with one vocabulary and other merges differ.
PROBE = "Solve for x: 3x² - 155 = 5x.\n\nMove $-11$ to the left side;  naïve 東京 🙂\t1234567890"

Layers = Literal["all"] | SupportsIndex | Iterable[SupportsIndex]
_PLURAL = {"layer": "blocks", "head": "heads"}


@dataclass(frozen=True)
class ModelPair:
    """Two models of one shape that read the same tokens.

    `clean` is the base, `corrupted` its fine-tuned child; both are unmodified Hugging Face decoders and are put in
    evaluation mode. A PeftModel is replaced by the model that it wraps, with its adapter in place. `origins` is where
    they were loaded from, for people. Raises UsageError where depth, width or vocabulary differ, where nothing attends,
    and where two models that should differ are made of the same modules.
    """

    clean: Any = field(repr=False)
    corrupted: Any = field(repr=False)
    prompts: PromptFormat = field(repr=False)
    origins: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        _check_apart(self.clean, self.corrupted)
        for name in ("clean", "corrupted"):
            object.__setattr__(self, name, unwrapped(getattr(self, name)))
        self.eval()
        check_attention(text_config(self.clean))
        check_shapes(text_config(self.clean), text_config(self.corrupted))

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

        Configurations and tokenizers are compared, and `layers` checked against the depth, before any weights
        are read. `raw`, `system`, `chat_template` and `date` say how questions are put (see chat.pair_format), or
        `prompts` does in their place. `share_base` says that an adapter of the clean model uses the same weights; for
        the others see config.Models. Raises UsageError.
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
        """Two models that are in memory, and their tokenizer; the corrupted one may have its own.

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
        """What the two models are called: where they were loaded from, as far as that is known."""
        clean, corrupted = self.origins or (model.name_or_path for model in (self.clean, self.corrupted))
        return clean or "a model in memory", corrupted or "a model in memory"

    @property
    def n_layers(self) -> int:
        """Blocks in each model."""
        return int(text_config(self.clean).num_hidden_layers)

    @property
    def n_heads(self) -> int:
        """Attention heads of a block, as queries count them."""
        return int(text_config(self.clean).num_attention_heads)

    @property
    def small_denominator(self) -> float:
        """Logits: where the models' ΔLs are closer than this in their precision, CTS says nothing."""
        return max(map(small_denominator, (self.clean, self.corrupted)))

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens at which every text ends, whichever model writes it."""
        return stop_tokens((self.clean, self.corrupted), self.prompts)

    def oriented(self, direction: Direction) -> tuple[nn.Module, nn.Module]:
        """(target, source): the model that runs on, and the model whose activations are moved in."""
        return (self.clean, self.corrupted) if direction == "corrupt" else (self.corrupted, self.clean)

    def encode(self, question: str, max_new_tokens: int = 0) -> list[int]:
        """The tokens that both models read for a question.

        Raises UsageError where with `max_new_tokens` more they are longer than the models can read.
        """
        tokens = self.prompts.encode(question)
        self.check_length(len(tokens), max_new_tokens)
        return tokens

    def check_length(self, prompt_tokens: int, max_new_tokens: int) -> None:
        """Refuse texts that would grow longer than the models can read; raises UsageError."""
        check_length(text_config(self.clean), prompt_tokens, max_new_tokens)

    def _repr_html_(self) -> str:
        return _card(self).html


def check_checkpoints(clean: Checkpoint, corrupted: Checkpoint | None, layers: Layers) -> tuple[Any, Any, Any]:
    """Refuse two checkpoints that do not fit, reading no weights; the clean one's configuration, and both tokenizers.

    `corrupted` is None where the child is still to be made, from the clean one and therefore like it.
    """
    config = clean.config().get_text_config(decoder=True)
    check_attention(config)
    if corrupted is not None:
        check_shapes(config, corrupted.config().get_text_config(decoder=True))
    numbered("layer", layers, config.num_hidden_layers)
    tokenizer = clean.tokenizer()
    if corrupted is None:
        return config, tokenizer, tokenizer
    other = corrupted.tokenizer()
    check_tokenizers(tokenizer, other)
    return config, tokenizer, other


def _check_apart(clean: nn.Module, corrupted: nn.Module) -> None:
    """Refuse two models with common modules, unless it is one model twice: a hook on one would act on both."""
    if clean is not corrupted and {id(module) for module in clean.modules()} & {id(m) for m in corrupted.modules()}:
        raise UsageError(
            "the two models are made of the same modules, as after get_peft_model(base, …), which changes the base "
            "itself; give it a copy, get_peft_model(copy.deepcopy(base), …), or load the pair by names"
        )


def check_attention(config: Any) -> None:
    """Refuse a model without any attention, whose past is nothing that crosspatch knows to read."""
    if getattr(config, "num_attention_heads", None) is None:
        raise UsageError(f"{config.model_type} has no attention heads; crosspatch patches models that attend")


def check_shapes(clean: Any, corrupted: Any) -> None:
    """Refuse models (by their configurations) whose activations cannot be exchanged."""
    for what, key in (
        ("blocks", "num_hidden_layers"),
        ("activations wide", "hidden_size"),
        ("tokens of vocabulary", "vocab_size"),
    ):
        a, b = getattr(clean, key), getattr(corrupted, key)
        if a != b:
            raise UsageError(
                f"the clean model has {a} {what}, the corrupted one {b}; patching needs two models of one shape"
            )


def check_length(config: Any, prompt_tokens: int, max_new_tokens: int) -> None:
    """Refuse a text that would grow longer than the positions that a model of this configuration knows."""
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and prompt_tokens + max_new_tokens > longest:
        raise UsageError(
            f"a prompt of {prompt_tokens} tokens and {max_new_tokens} new ones are more than the {longest} positions "
            "of the model; lower generation.max_new_tokens"
        )


def numbered(
    what: Literal["layer", "head"], chosen: Literal["all"] | SupportsIndex | Iterable[SupportsIndex], count: int
) -> list[int]:
    """Layer or head numbers as a list without repetition: all, one or several; negative ones count from the end.

    Raises UsageError for a number that a model with `count` layers or heads does not have.
    """
    if isinstance(chosen, str):
        if chosen != "all":
            raise UsageError(f'got {what}s {chosen!r}, expected "all" or numbers such as [8, 18, 28]')
        return list(range(count))
    found: dict[int, None] = {}
    for place in whole_numbers(chosen):
        if not isinstance(place, int):
            raise UsageError(f"got {what} {place!r}, expected a whole number")
        if not -count <= place < count:
            raise UsageError(f"{what} {place} is out of range: the model has {count} {_PLURAL[what]}, 0 to {count - 1}")
        found[place % count] = None
    return list(found)


def check_tokenizers(clean: Any, corrupted: Any) -> None:
    """Refuse tokenizers that would give the two models different tokens for one text."""
    a, b = clean.get_vocab(), corrupted.get_vocab()
    if a != b:
        differing = sum(a.get(token) != b.get(token) for token in a.keys() | b.keys())
        raise UsageError(
            f"the two models have different tokenizers: {differing} tokens differ; give a base and its child"
        )
    if _bare(clean) != _bare(corrupted):
        raise UsageError("the two models' tokenizers share a vocabulary but cut text differently")


def _bare(tokenizer: Any) -> list[int]:
    """A text's tokens without beginning and end of text: whether these belong there is asked for each prompt."""
    ids = list(tokenizer(PROBE).input_ids)
    if ids[0] == tokenizer.bos_token_id:
        del ids[0]
    if ids[-1] == tokenizer.eos_token_id:
        del ids[-1]
    return ids


def _card(pair: ModelPair) -> Card:
    """Both models' names, fingerprints, precision and device; the shape that they have together."""
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
        note="The two have the same weights: nothing can transfer." if prints[0] == prints[1] else "",
    )
    heads = f"{pair.n_heads} heads a block"
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
    return Card("A pair of models", facts, [each], hints)


def _precision(model: Any) -> str:
    precision, quantization = str(model.dtype).removeprefix("torch."), quantization_of(model)
    return precision if quantization is None else f"{precision}, linear layers in {quantization}"
