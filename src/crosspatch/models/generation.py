"""Generates a model's answers to questions in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from tqdm import tqdm
from transformers import DynamicCache, GenerationConfig

from crosspatch.models.blocks import cache_argument
from crosspatch.models.chat import PromptFormat
from crosspatch.models.placement import input_device

# Generate this many tokens before finished answers are removed from the batch.
CHUNK = 8


@dataclass(frozen=True)
class Answer:
    """One answer: its text without special tokens, its tokens with the closing token, and why it ended."""

    text: str
    tokens: list[int]
    stop_reason: Literal["eos", "limit"]

    @property
    def token_count(self) -> int:
        """The number of generated tokens, closing token included."""
        return len(self.tokens)


def answer(
    model: Any, prompts: PromptFormat, questions: list[str], max_new_tokens: int, stops: frozenset[int]
) -> list[Answer]:
    """Answer questions greedily, all in one batch, each up to `max_new_tokens` or one of the `stops`."""
    return continue_prompts(model, prompts, [prompts.encode(question) for question in questions], max_new_tokens, stops)


@torch.inference_mode()
def continue_prompts(
    model: Any,
    prompts: PromptFormat,
    encoded: Sequence[Sequence[int]],
    max_new_tokens: int,
    stops: frozenset[int],
    seed: int | None = None,
    *,
    together: bool = False,
) -> list[Answer]:
    """Continue prompts, given as token ids, in one batch: greedily, or by sampling if a `seed` is given.

    Sampling is nucleus sampling (top-p 0.95) at temperature 0.7. Finished rows are removed from the batch, unless
    `together` keeps them for a hook that identifies rows by their index.
    """
    length = max(map(len, encoded))
    filler = prompts.end_of_turn  # masked, so any token works; some tokenizers have no padding token
    device = input_device(model)
    tokens = torch.tensor([[filler] * (length - len(row)) + list(row) for row in encoded], device=device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in encoded], device=device)
    drawing = (
        {"do_sample": False} if seed is None else {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "top_k": 0}
    )
    # Sampled tokens depend on all rows of the batch, so sampling uses one chunk.
    chunk = CHUNK if seed is None and not together else max_new_tokens
    written: list[list[int]] = [[] for _ in encoded]
    going, past, name = list(range(len(encoded))), None, cache_argument(model)
    with (
        tqdm(total=max_new_tokens, desc=f"{len(encoded)} answers", unit="token", leave=False) as bar,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=seed is not None),
    ):
        if seed is not None:
            torch.manual_seed(seed)
        for start in range(0, max_new_tokens, chunk):
            settings = GenerationConfig(
                max_new_tokens=min(chunk, max_new_tokens - start),
                eos_token_id=sorted(stops),
                pad_token_id=filler,
                return_dict_in_generate=True,
                **drawing,
            )
            with _configured(model, settings):
                found = model.generate(input_ids=tokens, attention_mask=mask, **{name: past})
            new = found.sequences[:, tokens.shape[1] :]
            bar.update(new.shape[1])
            for row, more in zip(going, new.tolist(), strict=True):
                written[row] += more
            kept = [i for i, row in enumerate(going) if not stops & set(written[row])]
            if not kept:
                break
            tokens, mask, past, going = _narrowed(found, mask, going, kept)
    return [_cut(row, prompts, stops) for row in written]


def _narrowed(
    found: Any, mask: torch.Tensor, going: list[int], kept: list[int]
) -> tuple[torch.Tensor, torch.Tensor, Any, list[int]]:
    """Return the inputs of the next chunk: the unfinished rows, or all rows if the cache cannot select rows."""
    past = found["cache" if "cache" in found else "past_key_values"]
    if len(kept) < len(going):
        if isinstance(past, DynamicCache):
            # Indices on the CPU work for every layer of a model that is spread over devices.
            past.batch_select_indices(torch.tensor(kept))
        else:
            kept = list(range(len(going)))
    tokens = found.sequences[kept]
    more = torch.ones(len(kept), tokens.shape[1] - mask.shape[1], dtype=mask.dtype, device=mask.device)
    return tokens, torch.cat([mask[kept], more], dim=1), past, [going[i] for i in kept]


@contextmanager
def _configured(model: Any, settings: Any) -> Iterator[None]:
    """Within the context, `generate` uses only these settings.

    `generate` fills missing settings from the model's own generation config, which may have a repetition penalty.
    """
    own = model.generation_config
    try:
        model.generation_config = settings
        yield
    finally:
        model.generation_config = own


def _cut(row: list[int], prompts: PromptFormat, stops: frozenset[int]) -> Answer:
    end = next((i for i, token in enumerate(row) if token in stops), None)
    if end is None:
        return Answer(prompts.decode(row), row, "limit")
    return Answer(prompts.decode(row[:end]), row[: end + 1], "eos")
