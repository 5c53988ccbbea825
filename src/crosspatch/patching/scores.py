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


@dataclass(frozen=True)
class Contexts:
    """What the two unpatched models say in B contexts; patched states are scored against it."""

    y_clean: Int[Tensor, " B"]
    y_corrupt: Int[Tensor, " B"]
    delta_clean: Float[Tensor, " B"]
    delta_corrupted: Float[Tensor, " B"]
    probabilities: Float[Tensor, "B V"]
    entropy: Float[Tensor, " B"]
    kl_clean: Float[Tensor, " B"]

    @classmethod
    def of(cls, clean: Float[Tensor, "B V"], corrupted: Float[Tensor, "B V"]) -> Contexts:
        """From both models' logits, which are taken in float32 whatever they come in.

        Raises CrosspatchError for logits that are no numbers: no score could be made of them.
        """
        clean, corrupted = clean.float(), corrupted.float()
        y_clean, y_corrupt = clean.argmax(-1), corrupted.argmax(-1)
        log_corrupted = _log_probabilities("corrupted", corrupted)
        probabilities = log_corrupted.exp()
        once = [1] * len(clean)
        # KL(p || q) = E_p[log p] - E_p[log q]. Of logarithms, not of logits: these would lose digits in so long a sum.
        entropy = _expected(probabilities, log_corrupted, once)
        return cls(
            y_clean,
            y_corrupt,
            _at(clean, y_corrupt) - _at(clean, y_clean),
            _at(corrupted, y_corrupt) - _at(corrupted, y_clean),
            probabilities,
            entropy,
            entropy - _expected(probabilities, _log_probabilities("clean", clean), once),
        )

    def score(self, patched: Float[Tensor, "C V"], counts: list[int]) -> StepScores:
        """Score patched positions; `counts` says how many each context has, in their order."""
        patched = patched.float()
        of = torch.repeat_interleave(torch.tensor(counts)).to(patched.device)
        in_patched = _at(patched, self.y_corrupt[of])
        log_patched = _log_probabilities("patched", patched)
        kl_patched = self.entropy[of] - _expected(self.probabilities, log_patched, counts)
        # Over what is not needed any more: fresh memory would cost more than comparing.
        above = torch.gt(patched, in_patched[:, None], out=log_patched)
        return StepScores(
            token=patched.argmax(-1),
            clean_token=self.y_clean[of],
            corrupted_token=self.y_corrupt[of],
            delta_clean=self.delta_clean[of],
            delta_corrupted=self.delta_corrupted[of],
            delta_patched=in_patched - _at(patched, self.y_clean[of]),
            kl_clean=self.kl_clean[of],
            kl_patched=kl_patched,
            rank_corrupted=1 + above.sum(-1).long(),
        )


def score_states(
    clean: Float[Tensor, "C V"], corrupted: Float[Tensor, "C V"], patched: Float[Tensor, "C V"]
) -> StepScores:
    """Score C patched positions, each against what the unpatched models say in the same context."""
    return Contexts.of(clean, corrupted).score(patched, [1] * len(clean))


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


def _log_probabilities(state: str, logits: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
    """Logarithms of probabilities; every logit enters each of them, so any tells whether all are numbers."""
    logs = logits.log_softmax(-1)
    if logs[:, 0].isnan().any():
        raise CrosspatchError(
            f"the {state} model's logits are not all numbers; if it runs in float16 try bfloat16 or float32 "
            "(models.dtype), else look at its weights"
        )
    return logs


def _expected(
    probabilities: Float[Tensor, "B V"], logs: Float[Tensor, "N V"], counts: list[int]
) -> Float[Tensor, " N"]:
    """The mean of each row of logarithms under the probabilities of its context."""
    parts = zip(logs.split(counts), probabilities, strict=True)
    return torch.cat([torch.mv(part, weights) for part, weights in parts])


def to_rows(scores: StepScores) -> list[dict[str, float]]:
    """The C positions one by one, moved from the device at once."""
    names = list(StepScores.__dataclass_fields__)
    # On the CPU first: not every device knows float64.
    table = torch.stack([getattr(scores, name).cpu().double() for name in names], dim=1)
    return [dict(zip(names, values, strict=True)) for values in table.tolist()]
