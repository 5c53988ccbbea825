"""A logit lens of the activation delta: how the delta would change the clean model's logits if the model ended there.

The clean model's final norm and unembedding are applied to its resid_post, and to resid_post plus the delta (child
minus clean). Later blocks are skipped, so the lens shows what the residual stream already contains at that layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crosspatch.analysis.activation_delta import SharedReading
from crosspatch.models.chat import PromptFormat
from crosspatch.models.components import final_norm
from crosspatch.models.unembedding import UNEMBED_AT_ONCE, unembed
from crosspatch.patching.scores import delta

Ranking = Literal["logit", "probability"]
Side = Literal["up", "down"]


@dataclass(frozen=True, eq=False)
class LensChange:
    """Mean changes over U steps: of all logits and probabilities [V], and of logit(y_corrupt) − logit(y_clean) (`gap`).

    Often the logits of rare tokens with similar unembedding vectors change most. The probabilities that change most
    belong to tokens that the lens predicts before or after the change.
    """

    logits: Float[Tensor, " V"]
    probabilities: Float[Tensor, " V"]
    gap: float

    def top(self, count: int, by: Ranking, side: Side) -> list[int]:
        """Return the tokens whose logit or probability rises (`up`) or falls (`down`) most."""
        changes = self.logits if by == "logit" else self.probabilities
        return changes.topk(min(count, len(changes)), largest=side == "up").indices.tolist()


@torch.inference_mode()
def lens_change(
    model: nn.Module,
    stream: Float[Tensor, "U D"],
    deltas: Float[Tensor, "U D"],
    y_clean: Int[Tensor, " U"],
    y_corrupt: Int[Tensor, " U"],
) -> LensChange:
    """Compute how adding deltas to a model's residual stream changes the logits of its final norm and unembedding.

    Raises UsageError if the model's final norm is not found.
    """
    norm, gap = final_norm(model), 0.0
    logits = probabilities = torch.zeros(())
    parts = (whole.split(UNEMBED_AT_ONCE) for whole in (stream, deltas, y_clean, y_corrupt))
    for here, moved, *ys in zip(*parts, strict=True):
        there = (here.float() + moved).to(here)
        before, after = (unembed(model, norm(state[None])[0]) for state in (here, there))
        logits = logits.to(after) + (after - before).sum(0)
        probabilities = probabilities.to(after) + (after.softmax(-1) - before.softmax(-1)).sum(0)
        tokens = [y.to(after.device) for y in ys]
        gap += float((delta(after, *tokens) - delta(before, *tokens)).sum())
    return LensChange(logits / len(stream), probabilities / len(stream), gap / len(stream))


def lens_rows(clean: nn.Module, prompts: PromptFormat, reading: SharedReading, top: int) -> Iterator[dict[str, Any]]:
    """Yield the `top` raised and lowered tokens of each layer whose resid_post was read, at the steps of disagreement.

    The columns are those of tables.LOGIT_LENS without child and prompt. There are no rows if the models never disagree.
    """
    steps = reading.disagree
    if not steps.any():
        return
    fixed = {"steps": int(steps.sum()), "model_gap": float(reading.gap[steps].mean())}
    for site in reading.clean:
        if site.component != "resid_post":
            continue
        ys = reading.y_clean[steps], reading.y_corrupt[steps]
        change = lens_change(clean, reading.clean[site][steps], reading.delta(site)[steps], *ys)
        for by, side in product(get_args(Ranking), get_args(Side)):
            for rank, token in enumerate(change.top(top, by, side), start=1):
                yield {
                    "layer": site.layer,
                    "by": by,
                    "side": side,
                    "rank": rank,
                    "token_id": token,
                    "token": prompts.token_text(token),
                    "change": float(change.logits[token]),
                    "probability": float(change.probabilities[token]),
                    "lens_gap": change.gap,
                    **fixed,
                }
