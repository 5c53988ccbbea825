"""The scores of generation steps, from the logits of the three model states (paper, section 3.2.2).

Knows logits only: not where they come from, nor what was patched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosspatch.errors import CrosspatchError

Status = Literal["ok", "agree", "small_denominator", "unscheduled"]


@dataclass(frozen=True)
class StepScores:
    """What C patched positions say about their patches; logits and differences in float32, KL in nats.

    `token` is what the patched model generates. ΔL = logit(y_corrupt) − logit(y_clean) of each state, where
    y_clean and y_corrupt are the choices of the two unpatched models in the same context.
    """

    token: Int[Tensor, " C"]
    clean_token: Int[Tensor, " C"]
    corrupted_token: Int[Tensor, " C"]
    delta_clean: Float[Tensor, " C"]
    delta_corrupted: Float[Tensor, " C"]
    delta_patched: Float[Tensor, " C"]
    kl_clean: Float[Tensor, " C"]
    kl_patched: Float[Tensor, " C"]
    rank_corrupted: Int[Tensor, " C"]


def score_states(
    clean: Float[Tensor, "B V"],
    corrupted: Float[Tensor, "B V"],
    patched: Float[Tensor, "C V"],
    patches: list[int] | None = None,
) -> StepScores:
    """Score patched positions against the B contexts in which they stand.

    `patches` says how many patched positions each context has, in their order; one each where it is left out. The
    logits are taken in float32 whatever they come in. Raises CrosspatchError for logits that are no numbers: no
    score could be made of them.
    """
    clean, corrupted, patched = clean.float(), corrupted.float(), patched.float()
    counts = [1] * len(clean) if patches is None else patches
    of = torch.repeat_interleave(torch.tensor(counts)).to(clean.device)
    y_clean, y_corrupt = clean.argmax(-1), corrupted.argmax(-1)

    log_corrupted = corrupted - _normalizer("corrupted", corrupted)[:, None]
    probabilities = log_corrupted.exp()
    once = [1] * len(clean)
    # KL(p || q) = E_p[log p] - E_p[log q]. Of logarithms, not of logits: these would lose digits in so long a sum.
    entropy = _expected(probabilities, log_corrupted, once)
    kl_clean = entropy - _expected(probabilities, clean - _normalizer("clean", clean)[:, None], once)
    log_patched = patched - _normalizer("patched", patched)[:, None]
    kl_patched = entropy[of] - _expected(probabilities, log_patched, counts)

    in_patched = _at(patched, y_corrupt[of])
    return StepScores(
        token=patched.argmax(-1),
        clean_token=y_clean[of],
        corrupted_token=y_corrupt[of],
        delta_clean=(_at(clean, y_corrupt) - _at(clean, y_clean))[of],
        delta_corrupted=(_at(corrupted, y_corrupt) - _at(corrupted, y_clean))[of],
        delta_patched=in_patched - _at(patched, y_clean[of]),
        kl_clean=kl_clean[of],
        kl_patched=kl_patched,
        rank_corrupted=1 + (patched > in_patched[:, None]).sum(-1),
    )


def transfer_score(
    delta_clean: float,
    delta_corrupted: float,
    delta_patched: float,
    *,
    agree: bool,
    small_denominator: float,
    applied: bool = True,
) -> tuple[float | None, Status]:
    """CTS = (ΔL_patch − ΔL_clean) / (ΔL_corrupt − ΔL_clean), and whether it means anything.

    Where both models want the same token (`agree`) it is 0/0; where their differences are closer than
    `small_denominator` (in logits) it is noise; where the patch was not `applied` (its schedule rests) there is
    nothing to score. Each time it is None, never 0.
    """
    if not applied:
        return None, "unscheduled"
    if agree:
        return None, "agree"
    denominator = delta_corrupted - delta_clean
    if abs(denominator) < small_denominator:
        return None, "small_denominator"
    return (delta_patched - delta_clean) / denominator, "ok"


def _at(logits: Float[Tensor, "N V"], token: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    return logits.gather(-1, token[:, None]).squeeze(-1)


def _normalizer(state: str, logits: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """The logarithm of the sum of exponentials; every logit enters it, so it tells whether all are numbers."""
    normalizer = logits.logsumexp(-1)
    if not normalizer.isfinite().all():
        raise CrosspatchError(
            f"the {state} model's logits are not all numbers; if it runs in float16 try bfloat16 or float32 "
            "(models.dtype), else look at its weights"
        )
    return normalizer


def _expected(
    probabilities: Float[Tensor, "B V"], logits: Float[Tensor, "N V"], counts: list[int]
) -> Float[Tensor, " N"]:
    """The mean of each row of logits under the probabilities of its context."""
    parts = zip(logits.split(counts), probabilities, strict=True)
    return torch.cat([torch.mv(part, weights) for part, weights in parts])


def to_lists(scores: StepScores) -> dict[str, list[float]]:
    """Each field as a list of C numbers, moved from the device at once."""
    names = list(StepScores.__dataclass_fields__)
    # On the CPU first: not every device knows float64.
    table = torch.stack([getattr(scores, name).cpu().double() for name in names])
    return dict(zip(names, table.tolist(), strict=True))
