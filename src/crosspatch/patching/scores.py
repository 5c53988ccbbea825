"""The scores of one generation step, from the logits of the three model states (paper, section 3.2.2).

Knows logits only: not where they come from, nor what was patched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosspatch.errors import CrosspatchError

Status = Literal["ok", "agree", "small_denominator"]


@dataclass(frozen=True)
class StepScores:
    """What one step of B trajectories says about its patches; logits and differences in float32, KL in nats.

    `token` is what the patched model generates. ΔL = logit(y_corrupt) − logit(y_clean) of each state, where
    y_clean and y_corrupt are the choices of the two unpatched models in the same context.
    """

    token: Int[Tensor, " B"]
    clean_token: Int[Tensor, " B"]
    corrupted_token: Int[Tensor, " B"]
    delta_clean: Float[Tensor, " B"]
    delta_corrupted: Float[Tensor, " B"]
    delta_patched: Float[Tensor, " B"]
    kl_clean: Float[Tensor, " B"]
    kl_patched: Float[Tensor, " B"]
    rank_corrupted: Int[Tensor, " B"]


def score_step(
    clean: Float[Tensor, "B V"], corrupted: Float[Tensor, "B V"], patched: Float[Tensor, "B V"]
) -> StepScores:
    """Score B rows at one step; the logits are taken in float32 whatever they come in.

    Raises CrosspatchError for logits that are no numbers: no score could be made of them.
    """
    clean, corrupted, patched = clean.float(), corrupted.float(), patched.float()
    for state, logits in (("clean", clean), ("corrupted", corrupted), ("patched", patched)):
        if not logits.isfinite().all():
            raise CrosspatchError(
                f"the {state} model's logits are not all numbers; if it runs in float16 try bfloat16 or float32 "
                "(models.dtype), else look at its weights"
            )
    y_clean, y_corrupt = clean.argmax(-1), corrupted.argmax(-1)

    def delta(logits: Float[Tensor, "B V"]) -> Float[Tensor, " B"]:
        return _at(logits, y_corrupt) - _at(logits, y_clean)

    log_corrupted = corrupted.log_softmax(-1)

    def kl_from_corrupted(logits: Float[Tensor, "B V"]) -> Float[Tensor, " B"]:
        return (log_corrupted.exp() * (log_corrupted - logits.log_softmax(-1))).sum(-1)

    return StepScores(
        token=patched.argmax(-1),
        clean_token=y_clean,
        corrupted_token=y_corrupt,
        delta_clean=delta(clean),
        delta_corrupted=delta(corrupted),
        delta_patched=delta(patched),
        kl_clean=kl_from_corrupted(clean),
        kl_patched=kl_from_corrupted(patched),
        rank_corrupted=1 + (patched > _at(patched, y_corrupt)[:, None]).sum(-1),
    )


def transfer_score(
    delta_clean: float, delta_corrupted: float, delta_patched: float, *, agree: bool, small_denominator: float
) -> tuple[float | None, Status]:
    """CTS = (ΔL_patch − ΔL_clean) / (ΔL_corrupt − ΔL_clean), and whether it means anything.

    Where both models want the same token (`agree`) it is 0/0; where their differences are closer than
    `small_denominator` (in logits) it is noise. Both times it is None, never 0.
    """
    if agree:
        return None, "agree"
    denominator = delta_corrupted - delta_clean
    if abs(denominator) < small_denominator:
        return None, "small_denominator"
    return (delta_patched - delta_clean) / denominator, "ok"


def _at(logits: Float[Tensor, "B V"], token: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    return logits.gather(-1, token[:, None]).squeeze(-1)


def to_lists(scores: StepScores) -> dict[str, list[float]]:
    """Each field as a list of B numbers, moved from the device at once."""
    names = list(StepScores.__dataclass_fields__)
    # On the CPU first: not every device knows float64.
    table = torch.stack([getattr(scores, name).cpu().double() for name in names])
    return dict(zip(names, table.tolist(), strict=True))
