"""Teacher-forced scores: every patch at every position of a given text, in a few passes.

Nothing is generated: each patched model reads the given text, and its next-token prediction is scored at every step. So
all patches are compared in the same contexts; if each generated its own text, the contexts would differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from crosspatch.errors import UsageError
from crosspatch.models.pair import ModelPair
from crosspatch.patching.any_cache import run_any_cache
from crosspatch.patching.patches import Patch
from crosspatch.patching.rounds import CELLS_AT_ONCE, SOURCE, TARGET, Cells, Rounds
from crosspatch.patching.scores import ScoreLog
from crosspatch.patching.trajectory import PatchRun, Prompt, Trajectory


@torch.inference_mode()
def score_tokens(
    pair: ModelPair, prompt: Sequence[int], text: Sequence[int], patches: Sequence[Patch], run: PatchRun
) -> list[Trajectory]:
    """Score each patch at each step of `text` (token ids) after `prompt`.

    There is one step for each token of `text`, and the context is always the given text; the step's token is the
    patched model's top-1 token. Patches must be transient: a persistent patch is defined only for the text it
    generates. Raises UsageError for a persistent run, an empty text or the reference engine.
    """
    if run.persistence == "persistent":
        raise UsageError("got persistent patches, expected transient ones to score a given text")
    if not text:
        raise UsageError("got an empty text to score, expected at least one token")
    if run.engine == "reference":
        raise UsageError("the reference engine cannot score a given text; use the engine cached or any_cache")
    if run.engine == "any_cache":
        return run_any_cache(pair, [Prompt(list(prompt), patches)], run, text)[0].trajectories
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
            rounds.read(SOURCE, [(given, last)])
            log.add(cells.row, rounds.read(TARGET, [(given, last)], cells))
            rounds.release(given, first, last)
    return [
        Trajectory(patch, len(prompt), steps) for patch, steps in zip(patches, log.split(len(patches)), strict=True)
    ]
