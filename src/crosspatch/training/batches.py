"""Orders examples into batches, and pads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from crosspatch.training.examples import IGNORED, Example

# This many batches of examples are sorted by length together; a larger number makes lengths in a batch more alike.
_MIXED = 50


def filled(examples: list[Example], multiple: int) -> list[Example]:
    """Add examples without a loss, so that all batches are full and every process has the same number of batches.

    Otherwise accelerate would repeat examples, and the mean over batches would differ from the mean over examples.
    """
    return [*examples, *[Example([0], [IGNORED])] * (-len(examples) % multiple)]


@dataclass(frozen=True)
class EpochOrder:
    """The order of the examples in an epoch, which depends only on the training's seed and the epoch.

    Each batch has examples of similar length, which saves at least a tenth of the tokens. The batches of a step are
    sampled at random: otherwise steps would alternate between short and long examples. The Trainer's own order uses the
    global generator, so it would change if training resumed in the middle of an epoch.
    """

    trainer: Any
    lengths: list[int]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        # `epoch` is a whole number when an epoch starts, and also when training resumes.
        epoch, size = int(self.trainer.state.epoch or 0), self.trainer.together
        rng = Random(f"{self.trainer.args.seed} {epoch}")
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        whole = len(order) // size * size
        batches = []
        for start in range(0, whole, size * _MIXED):
            like = sorted(order[start : min(start + size * _MIXED, whole)], key=self.lengths.__getitem__)
            batches += [like[i : i + size] for i in range(0, len(like), size)]
        rng.shuffle(batches)
        # Examples that do not fill a batch come last, followed by the examples without a loss.
        return iter([i for batch in batches for i in batch] + order[whole:] + [*range(len(order), self.count)])


@dataclass(frozen=True)
class Batcher:
    """Pads examples to a batch; with `short`, the model computes logits for completions only.

    Padding is on the left, so completions end at the right and the logits of prompts, which have no loss, need not be
    computed: with a large vocabulary they are a fifth of the work.
    """

    short: bool

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, Any]:
        """Return a batch of B rows [B, T]; labels [B, K] cover the last K positions, K = T without `short`."""

        def padded(rows: list[list[int]], filler: int) -> Tensor:
            tensors = [torch.tensor(row) for row in rows]
            return pad_sequence(tensors, batch_first=True, padding_value=filler, padding_side="left")

        ids = [example["input_ids"] for example in examples]
        labels = padded([example["labels"] for example in examples], IGNORED)
        mask = padded([[1] * len(row) for row in ids], 0)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        # The mask hides the padding tokens from the model.
        batch = {"input_ids": padded(ids, 0), "attention_mask": mask, "position_ids": positions}
        if not self.short:
            return {**batch, "labels": labels}
        first = int((labels != IGNORED).any(dim=0).int().argmax())
        # One more position: it predicts the first token of a completion.
        kept = labels.shape[1] - max(first - 1, 0)
        return {**batch, "labels": labels[:, -kept:], "logits_to_keep": kept}
