"""Teacher-forced scores: every patch at every position of a given text, in a few passes.

Nothing is generated: each patched model reads the given text, and its next-token prediction is scored at every step. So
all patches are compared in the same contexts; if each generated its own text, the contexts would differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
import torch

from crosspatch.config import Directions
from crosspatch.errors import UsageError
from crosspatch.models.pair import ModelPair
from crosspatch.patching.patches import Patch
from crosspatch.patching.rounds import CELLS_AT_ONCE, SOURCE, TARGET, Cells, Rounds
from crosspatch.patching.scores import ScoreLog
from crosspatch.patching.sweep import choose_patches, patch_runs
from crosspatch.patching.trajectory import PatchRun, Trajectory


@torch.inference_mode()
def score_tokens(
    pair: ModelPair, prompt: Sequence[int], text: Sequence[int], patches: Sequence[Patch], run: PatchRun
) -> list[Trajectory]:
    """Score each patch at each step of `text` (token ids) after `prompt`.

    There is one step for each token of `text`, and the context is always the given text; the step's token is the
    patched model's top-1 token. Patches must be transient: a persistent patch is defined only for the text it
    generates. Raises UsageError for a persistent run or an empty text.
    """
    if run.persistence == "persistent":
        raise UsageError("got persistent patches, expected transient ones to score a given text")
    if not text:
        raise UsageError("got an empty text to score, expected at least one token")
    ids, log, rows = [*prompt, *text[:-1]], ScoreLog(), np.arange(len(patches))
    size = max(1, CELLS_AT_ONCE // max(1, len(patches)))
    with Rounds(pair, run, patches, len(ids), slots=1) as rounds:
        given = rounds.open(0, ids)
        given.start = len(prompt) - 1
        for first in range(given.start, len(ids), size):
            last = min(first + size, len(ids))
            positions = np.arange(first, last)
            every_row = np.tile(rows, len(positions))
            cells = Cells([given], np.zeros_like(every_row), np.repeat(positions, len(rows)), every_row)
            for model in (SOURCE, TARGET):
                if model == SOURCE or rounds.looks:
                    rounds.read(model, [(given, last)])
            log.add(cells.row, rounds.read(TARGET, [(given, last)], cells))
            rounds.release(given, first, last)
    return [
        Trajectory(patch, len(prompt), steps) for patch, steps in zip(patches, log.split(len(patches)), strict=True)
    ]


def score(
    pair: ModelPair,
    prompt_id: str,
    question: str,
    text: str | Sequence[int],
    patches: Iterable[Patch | str],
    *,
    direction: Directions = "corrupt",
    small_denominator: float | None = None,
    float32_unembedding: bool = False,
) -> pl.DataFrame:
    """Score transient patches at each token of a given text; the table is `SCORES` of crosspatch.tables.

    `text` is a solution, tokenised with its question like a training example, or token ids. Patches have names such as
    `L17.attn_out+L18.head.3`. `small_denominator` is in logits; None: by the models' precision. Raises UsageError for
    a site that the models do not have.
    """
    runs = patch_runs(pair, direction, small_denominator=small_denominator, float32_unembedding=float32_unembedding)
    pair.eval()
    chosen = choose_patches(pair, patches=[patches] if isinstance(patches, str | Patch) else patches)
    if isinstance(text, str):
        prompt, tokens = pair.prompts.example(question, text)
        pair.check_length(len(prompt), len(tokens))
    else:
        tokens = [int(token) for token in text]
        prompt = pair.encode(question, len(tokens))
    return pl.concat(
        trajectory.frame(prompt_id, run, pair.prompts)
        for run in runs
        for trajectory in score_tokens(pair, prompt, tokens, chosen, run)
    )
