"""A model's own greedy answers to questions, in batches. Knows no patch and no grade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from tqdm import tqdm

from crosspatch.models.chat import PromptFormat, stop_tokens


@dataclass(frozen=True)
class Answer:
    """One answer: its text without special tokens, its tokens with the closing one, and why it ended."""

    text: str
    token_count: int
    stop_reason: Literal["eos", "limit"]


@torch.inference_mode()
def answer(
    model: Any,
    prompts: PromptFormat,
    questions: list[str],
    max_new_tokens: int,
    batch_size: int = 32,
    who: str = "model",
) -> list[Answer]:
    """Answer each question greedily, up to `max_new_tokens`; `who` is named in the progress bar."""
    stops = stop_tokens(model, prompts)
    answers: list[Answer] = []
    with tqdm(total=len(questions), desc=f"answers of the {who} model", unit="question") as progress:
        for start in range(0, len(questions), batch_size):
            encoded = [prompts.encode(question) for question in questions[start : start + batch_size]]
            answers += _answer_batch(model, prompts, encoded, max_new_tokens, stops)
            progress.update(len(encoded))
    return answers


def _answer_batch(
    model: Any, prompts: PromptFormat, encoded: list[list[int]], max_new_tokens: int, stops: frozenset[int]
) -> list[Answer]:
    from transformers import GenerationConfig

    length = max(map(len, encoded))
    filler = prompts.end_of_turn  # masked, so any token does; not every tokenizer has one for padding
    tokens = torch.tensor([[filler] * (length - len(row)) + row for row in encoded], device=model.device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in encoded], device=model.device)
    # A new configuration, not the model's own: that may ask for sampling or a repetition penalty.
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=sorted(stops), pad_token_id=filler
    )
    generated = model.generate(input_ids=tokens, attention_mask=mask, generation_config=settings)
    return [_cut(row, prompts, stops) for row in generated[:, length:].tolist()]


def _cut(row: list[int], prompts: PromptFormat, stops: frozenset[int]) -> Answer:
    end = next((i for i, token in enumerate(row) if token in stops), None)
    if end is None:
        return Answer(prompts.decode(row), len(row), "limit")
    return Answer(prompts.decode(row[:end]), end + 1, "eos")
