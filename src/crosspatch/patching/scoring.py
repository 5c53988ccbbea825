"""Teacher-forced scores: every patch at every position of a text that is given, in a few passes.

Nothing is generated: the patched models read the same text, and what each would write next is scored. So patches can
be compared at the same steps, which trajectories of their own do not allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl
import torch

from crosspatch.errors import UsageError
from crosspatch.frames import SCORES
from crosspatch.models.pair import ModelPair
from crosspatch.patching.patches import Patch
from crosspatch.patching.rounds import Rounds, Row, Stretch
from crosspatch.patching.sweep import choose_patches
from crosspatch.patching.trajectory import PatchRun, Trajectory

# Patched positions in one pass: enough to keep the processor busy, few enough that memory stays flat.
CELLS_AT_ONCE = 4096


@torch.inference_mode()
def score_tokens(
    pair: ModelPair, prompt: Sequence[int], text: Sequence[int], patches: Sequence[Patch], run: PatchRun
) -> list[Trajectory]:
    """Each patch's scores at each step of `text` (token ids) after `prompt`.

    A step's token is what the patched model would write there, the context is always the given text: one row of
    scores for each of its tokens. Transient patches only: a persistent one has no text but its own. Raises
    UsageError for a persistent run or an empty text.
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
    run: PatchRun | None = None,
) -> pl.DataFrame:
    """`score_tokens` as a table of scores (see crosspatch.frames), along a text or its token ids.

    Patches may be named, such as `L17.attn_out+L18.head.3`. Raises UsageError for a place that the models do not have.
    """
    run = run or PatchRun(small_denominator=pair.small_denominator)
    chosen = choose_patches(pair, patches=patches)
    tokens = pair.prompts.encode_completion(text) if isinstance(text, str) else list(text)
    prompt = pair.encode(question, len(tokens))
    trajectories = score_tokens(pair, prompt, tokens, chosen, run)
    return SCORES.frame(row for t in trajectories for row in t.rows(prompt_id, run, pair.prompts))
