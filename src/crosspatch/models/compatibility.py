"""Checks that two models, their tokenizers, layers and text lengths are compatible, mostly before reading weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, SupportsIndex

from crosspatch.config import whole_numbers
from crosspatch.errors import UsageError
from crosspatch.models.loading import Checkpoint

Layers = Literal["all"] | SupportsIndex | Iterable[SupportsIndex]

# Words, signs, digits, Unicode and white space: reveals tokenizers with the same vocabulary but different merges.
_PROBE = "Solve for x: 3x² - 155 = 5x.\n\nMove $-11$ to the left side;  naïve 東京 🙂\t1234567890"
_PLURAL = {"layer": "blocks", "head": "heads"}


def check_checkpoints(clean: Checkpoint, corrupted: Checkpoint | None, layers: Layers) -> tuple[Any, Any, Any]:
    """Refuse two checkpoints that do not match; return the clean model's configuration, and both tokenizers.

    Reads no weights. `corrupted` is None if the child will be made from the clean model.
    """
    config = clean.config().get_text_config(decoder=True)
    check_configs(config, config if corrupted is None else corrupted.config().get_text_config(decoder=True))
    numbered("layer", layers, config.num_hidden_layers)
    tokenizer = clean.tokenizer()
    if corrupted is None:
        return config, tokenizer, tokenizer
    other = corrupted.tokenizer()
    check_tokenizers(tokenizer, other)
    return config, tokenizer, other


def check_configs(clean: Any, corrupted: Any) -> None:
    """Refuse models with different dimensions, or that do not say their depth."""
    for what, key in (
        ("blocks", "num_hidden_layers"),
        ("activations wide", "hidden_size"),
        ("tokens of vocabulary", "vocab_size"),
    ):
        a, b = getattr(clean, key, None), getattr(corrupted, key, None)
        if a is None:
            raise UsageError(f"the configuration of {clean.model_type} has no {key}; it is no decoder of one stream")
        if a != b:
            raise UsageError(
                f"the clean model has {a} {what}, the corrupted one {b}; patching needs two models with the same "
                "dimensions"
            )


def check_length(config: Any, prompt_tokens: int, max_new_tokens: int) -> None:
    """Refuse a text that could become longer than the configuration's `max_position_embeddings`."""
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and prompt_tokens + max_new_tokens > longest:
        raise UsageError(
            f"got a prompt of {prompt_tokens} tokens and {max_new_tokens} new ones, more than the {longest} positions "
            "of the model; lower generation.max_new_tokens"
        )


def numbered(
    what: Literal["layer", "head"], chosen: Literal["all"] | SupportsIndex | Iterable[SupportsIndex], count: int
) -> list[int]:
    """Return layer or head numbers as a list without duplicates; negative numbers count from the end.

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
            f"the two models have different tokenizers: {differing} tokens differ; give a base and its fine-tuned model"
        )
    if _bare(clean) != _bare(corrupted):
        raise UsageError(
            "the two models' tokenizers have the same vocabulary but tokenize text differently; give a base and its "
            "fine-tuned model"
        )


def _bare(tokenizer: Any) -> list[int]:
    """Return the probe's tokens without beginning and end of text, which `PromptFormat` compares for each prompt."""
    ids = list(tokenizer(_PROBE).input_ids)
    if ids[0] == tokenizer.bos_token_id:
        del ids[0]
    if ids[-1] == tokenizer.eos_token_id:
        del ids[-1]
    return ids
