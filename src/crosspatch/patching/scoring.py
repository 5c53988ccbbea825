"""Teacher-forced scores: every patch at every position of a given text, in a few passes.

Nothing is generated: each patched model reads the given text, and its next-token prediction is scored at every step. So
patches can be compared at the same steps, which their own texts would not allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl
import torch

from crosspatch.config import Directions
from crosspatch.errors import UsageError
from crosspatch.models.pair import ModelPair
from crosspatch.patching.patches import Patch
from crosspatch.patching.rounds import Rounds, Row, Stretch
from crosspatch.patching.sweep import choose_patches, patch_runs
from crosspatch.patching.trajectory import PatchRun, Trajectory
from crosspatch.tables import SCORES

# Patched positions in one pass: enough to keep the processor busy, few enough to bound memory.
CELLS_AT_ONCE = 4096


@torch.inference_mode()
def score_tokens(
    pair: ModelPair, prompt: Sequence[int], text: Sequence[int], patches: Sequence[Patch], run: PatchRun
) -> list[Trajectory]:
    """Each patch's scores at each step of `text` (token ids) after `prompt`.

    The token of a step is the top-1 token of the patched model, and the context is always the given text: there is one
    step for each of its tokens. Patches are transient: a persistent patch has no text but its own. Raises UsageError
    for a persistent run or an empty text.
    """
    if run.persistence == "persistent":
        raise UsageError("got persistent patches; along a given text only transient ones can be scored")
    if not text:
        raise UsageError("got no text to score along, expected at least one token")
    rounds = Rounds(pair, run, len(prompt) + len(text), lanes=1)
    lanes = rounds.target_past.open(), rounds.source_past.open()
    rounds.prefill([([*prompt[:-1]], *lanes)])
    read = [prompt[-1], *text[:-1]]
    rows = [Row(patch) for patch in patches]
    trajectories = [Trajectory(patch, len(prompt)) for patch in patches]
    size = max(1, CELLS_AT_ONCE // max(1, len(rows)))
    for start in range(0, len(read), size):
        stretch = Stretch(read[start : start + size], len(prompt) - 1 + start, start, *lanes, rows)
        for trajectory, steps in zip(trajectories, rounds.read([stretch])[0].rows, strict=True):
            trajectory.steps += steps
    return trajectories


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
    """The scores of the named patches at each token of a given text (see crosspatch.tables); patches are transient.

    `text` is a solution, tokenised with its question like a training example, or token ids. Patches have names such as
    `L17.attn_out+L18.head.3`. `small_denominator` is in logits; None follows the models' precision. Raises UsageError
    for a site that the models lack.
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
    return SCORES.frame(
        row
        for run in runs
        for trajectory in score_tokens(pair, prompt, tokens, chosen, run)
        for row in trajectory.rows(prompt_id, run, pair.prompts)
    )
