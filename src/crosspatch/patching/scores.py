"""The scores of generation steps, from the logits of the target, the source and the patched model.

ΔL, KL and rank are defined by the clean and the corrupted model in either direction (paper, section 3.2.2):
ΔL = logit(y_corrupt) − logit(y_clean), with y the top-1 tokens of the unpatched models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from crosspatch.config import Direction
from crosspatch.errors import CrosspatchError
from crosspatch.models.pair import by_direction
from crosspatch.models.unembedding import UNEMBED_AT_ONCE, unembed

Status = Literal["ok", "agree", "small_denominator", "unscheduled"]


@dataclass(frozen=True, slots=True)
class Step:
    """The scores of a patch at one position; ΔLs in logits, KL in nats.

    `token` is the token that the patched model generates; `y_target` and `y_source` are the unpatched models' top-1
    tokens in the same context. `kl_clean` is KL(corrupted ‖ clean), `kl_patched` is KL(corrupted ‖ patched), and
    `rank_corrupted` is the rank of y_corrupt in the patched model. `applied` is whether the schedule applied the patch.
    """

    token: int
    y_target: int
    y_source: int
    delta_target: float
    delta_source: float
    delta_patched: float
    kl_clean: float
    kl_patched: float
    rank_corrupted: int
    applied: bool

    @property
    def disagree(self) -> bool:
        """Whether the unpatched models' top-1 tokens differ."""
        return self.y_target != self.y_source

    @property
    def deltas(self) -> tuple[float, float, float]:
        """The ΔLs of target, source and patched model."""
        return self.delta_target, self.delta_source, self.delta_patched

    @property
    def moved(self) -> float:
        """ΔL_patched − ΔL_target."""
        return self.delta_patched - self.delta_target

    @property
    def gap(self) -> float:
        """ΔL_source − ΔL_target."""
        return self.delta_source - self.delta_target


@dataclass(frozen=True)
class Predictions:
    """The unpatched models' top-1 tokens and ΔLs in B contexts."""

    direction: Direction
    y_target: Int[Tensor, " B"]
    y_source: Int[Tensor, " B"]
    delta_target: Float[Tensor, " B"]
    delta_source: Float[Tensor, " B"]

    @classmethod
    def of(
        cls, target: Float[Tensor, "B V"], source: Float[Tensor, "B V"], direction: Direction = "corrupt"
    ) -> Predictions:
        """Compute predictions from both models' logits, which are on the same device."""
        target, source = target.float(), source.float()
        y_target, y_source = target.argmax(-1), source.argmax(-1)
        compared = by_direction(direction, y_target, y_source)
        return cls(direction, y_target, y_source, delta(target, *compared), delta(source, *compared))

    @property
    def disagree(self) -> Bool[Tensor, " B"]:
        """Where the two top-1 tokens differ."""
        return self.y_target != self.y_source

    @property
    def compared(self) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
        """(y_clean, y_corrupt), the tokens that ΔL compares."""
        return by_direction(self.direction, self.y_target, self.y_source)


def predict(
    target: nn.Module,
    of_target: Float[Tensor, "B D"],
    source: nn.Module,
    of_source: Float[Tensor, "B D"],
    direction: Direction = "corrupt",
    *,
    float32: bool = False,
) -> Predictions:
    """Compute both models' predictions from last hidden states, a few at a time, so that few logits are in memory."""
    parts = [
        Predictions.of(
            unembed(target, one, float32=float32), unembed(source, other, float32=float32).to(one.device), direction
        )
        for one, other in zip(of_target.split(UNEMBED_AT_ONCE), of_source.split(UNEMBED_AT_ONCE), strict=True)
    ]
    names = [field.name for field in fields(Predictions) if field.name != "direction"]
    return Predictions(direction, *(torch.cat([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Contexts:
    """The unpatched models' predictions in B contexts, to compare patched logits with.

    `probabilities` and the negative entropy Σ p log p (`entropy`) are the corrupted model's.
    """

    predictions: Predictions
    probabilities: Float[Tensor, "B V"]
    entropy: Float[Tensor, " B"]
    kl_clean: Float[Tensor, " B"]

    @classmethod
    def of(
        cls, target: Float[Tensor, "B V"], source: Float[Tensor, "B V"], direction: Direction = "corrupt"
    ) -> Contexts:
        """Compute contexts from both models' logits, in float32. Raises CrosspatchError for NaN or infinity."""
        clean, corrupted = by_direction(direction, target.float(), source.float())
        log_corrupted = _log_probabilities("corrupted", corrupted)
        probabilities = log_corrupted.exp()
        once = [1] * len(clean)
        # KL(p || q) = E_p[log p] - E_p[log q]. Logits instead of log-probabilities would lose digits in the long sum.
        entropy = _expected(probabilities, log_corrupted, once)
        kl_clean = entropy - _expected(probabilities, _log_probabilities("clean", clean), once)
        return cls(Predictions.of(target, source, direction), probabilities, entropy, kl_clean)

    def score(self, patched: Float[Tensor, "C V"], counts: list[int], applied: Sequence[bool]) -> list[Step]:
        """Score C patched positions; the first `counts[0]` belong to the first context, and so on.

        `applied` states for each position whether its patch was applied.
        """
        patched = patched.float()
        of = torch.repeat_interleave(torch.tensor(counts)).to(patched.device)
        predicted = self.predictions
        y_clean, y_corrupt = (y[of] for y in predicted.compared)
        in_patched = _at(patched, y_corrupt)
        log_patched = _log_probabilities("patched", patched)
        kl_patched = self.entropy[of] - _expected(self.probabilities, log_patched, counts)
        # Reuse the memory of `log_patched`: an allocation would cost more than the comparison.
        above = torch.gt(patched, in_patched[:, None], out=log_patched)
        # The columns are in the order of Step's fields.
        columns = (
            patched.argmax(-1),
            predicted.y_target[of],
            predicted.y_source[of],
            predicted.delta_target[of],
            predicted.delta_source[of],
            in_patched - _at(patched, y_clean),
            self.kl_clean[of],
            kl_patched,
            1 + above.sum(-1).long(),
        )
        return [Step(*values) for values in zip(*(column.tolist() for column in columns), applied, strict=True)]


def delta(
    logits: Float[Tensor, "N V"], y_clean: Int[Tensor, " N"], y_corrupt: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Compute ΔL = logit(y_corrupt) − logit(y_clean)."""
    return _at(logits, y_corrupt) - _at(logits, y_clean)


def transfer_score(
    delta_clean: float,
    delta_corrupted: float,
    delta_patched: float,
    *,
    agree: bool,
    small_denominator: float,
    applied: bool = True,
) -> tuple[float | None, Status]:
    """Return CTS = (ΔL_patch − ΔL_clean) / (ΔL_corrupt − ΔL_clean), one token's recovered fraction, and its status.

    CTS is None, never 0, if both models predict the same token (`agree`: 0/0), if the absolute denominator is below
    `small_denominator` (in logits: the quotient would be noise), or if the schedule did not apply the patch.
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
    """Compute log-probabilities, and check the logits: one NaN or +∞ makes every log-probability of its row NaN."""
    logs = logits.log_softmax(-1)
    if logs[:, 0].isnan().any():
        raise CrosspatchError(
            f"the {state} model's logits contain NaN or infinity; if it runs in float16, set models.dtype to bfloat16 "
            "or float32, else check its weights"
        )
    return logs


def _expected(
    probabilities: Float[Tensor, "B V"], logs: Float[Tensor, "N V"], counts: list[int]
) -> Float[Tensor, " N"]:
    """Compute the expectation of each row of `logs` under the probabilities of its context."""
    parts = zip(logs.split(counts), probabilities, strict=True)
    return torch.cat([torch.mv(part, weights) for part, weights in parts])
