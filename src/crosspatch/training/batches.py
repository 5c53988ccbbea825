"""Batches of examples: their order and their padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from crosspatch.training.examples import IGNORED, Example

# So many batches of examples are sorted by length together; a larger number makes the lengths in a batch more alike.
_MIXED = 50


def filled(examples: list[Example], multiple: int) -> list[Example]:
    """The examples and some without a loss, so that all batches are full and every process has the same number.

    Otherwise accelerate would repeat examples, and a mean over batches would not be one over examples.
    """
    return [*examples, *[Example([0], [IGNORED])] * (-len(examples) % multiple)]


@dataclass(frozen=True)
class EpochOrder:
    """The order of the examples in an epoch, by the training's seed and the epoch alone.

    Examples of similar length make a batch, which saves a tenth of the tokens or more. The batches of a step are drawn
    at random, as steps of one kind of examples would alternate between kinds. The Trainer's own order comes from the
    global generator: resumed in the middle of an epoch it would differ.
    """

    trainer: Any
    lengths: list[int]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        # `epoch` is a whole number at the start of an epoch, also when training resumes.
        epoch, size = int(self.trainer.state.epoch or 0), self.trainer.together
        rng = Random(f"{self.trainer.args.seed} {epoch}")
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        whole = len(order) // size * size
        batches = []
        for start in range(0, whole, size * _MIXED):
            like = sorted(order[start : min(start + size * _MIXED, whole)], key=self.lengths.__getitem__)
            batches += [like[i : i + size] for i in range(0, len(like), size)]
        rng.shuffle(batches)
        # The examples that do not fill a batch come last, followed by the examples without a loss.
        return iter([i for batch in batches for i in batch] + order[whole:] + [*range(len(order), self.count)])


@dataclass(frozen=True)
class Batcher:
    """Pads examples to a batch; `short` asks the model for the logits of completions only.

    The padding is on the left, so that completions end at the right and the logits of prompts, on which no loss is
    taken, are left out: with a large vocabulary they are a fifth of the work.
    """

    short: bool

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, Any]:
        """A batch of B rows [B, T]; labels [B, K] for the last K positions, K = T without `short`."""

        def padded(rows: list[list[int]], filler: int) -> Tensor:
            tensors = [torch.tensor(row) for row in rows]
            return pad_sequence(tensors, batch_first=True, padding_value=filler, padding_side="left")

        ids = [example["input_ids"] for example in examples]
        labels = padded([example["labels"] for example in examples], IGNORED)
        mask = padded([[1] * len(row) for row in ids], 0)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        # The model ignores the padding's token.
        batch = {"input_ids": padded(ids, 0), "attention_mask": mask, "position_ids": positions}
        if not self.short:
            return {**batch, "labels": labels}
        first = int((labels != IGNORED).any(dim=0).int().argmax())
        # One more: the first token of a completion is predicted at the position before it.
        kept = labels.shape[1] - max(first - 1, 0)
        return {**batch, "labels": labels[:, -kept:], "logits_to_keep": kept}
