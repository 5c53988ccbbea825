"""The scores of generation steps, from the logits of the target, the source and the patched model.

ΔL, KL and rank are defined by the clean and the corrupted model in either direction (paper, section 3.2.2):
ΔL = logit(y_corrupt) − logit(y_clean), with y the top-1 tokens of the unpatched models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import pairwise
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from crosspatch.config import Direction
from crosspatch.errors import CrosspatchError
from crosspatch.models.pair import by_direction
from crosspatch.models.unembedding import UNEMBED_AT_ONCE, unembed

# Maximum number of contexts scored at once; the logits of both models for them are held in memory.
CONTEXTS_AT_ONCE = 32


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


_COLUMNS = {field.name: i for i, field in enumerate(fields(Step))}
_WHOLE = ("token", "y_target", "y_source", "rank_corrupted")


class Steps(Sequence[Step]):
    """The scores of N steps as columns [N, 10], in the order of Step's fields; each item is a `Step`.

    Float32 holds every token id and rank exactly, since vocabularies are smaller than 2^24.
    """

    def __init__(self, values: Iterable[Step] | NDArray[np.float32] = ()) -> None:
        if not isinstance(values, np.ndarray):
            values = np.array([astuple(step) for step in values], np.float32).reshape(-1, len(_COLUMNS))
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Steps: ...
    def __getitem__(self, index: int | slice) -> Step | Steps:
        if isinstance(index, slice):
            return Steps(self.values[index])
        row = dict(zip(_COLUMNS, self.values[index].tolist(), strict=True))
        row |= {name: int(row[name]) for name in _WHOLE}
        return Step(**{**row, "applied": bool(row["applied"])})

    def column(self, name: str) -> NDArray[Any]:
        """Return a field of all steps, [N]: integers, truth values, or float32."""
        column = self.values[:, _COLUMNS[name]]
        return column.astype(np.int32) if name in _WHOLE else column > 0 if name == "applied" else column

    @property
    def disagree(self) -> NDArray[np.bool_]:
        """Where the unpatched models' top-1 tokens differ, [N]."""
        return self.column("y_target") != self.column("y_source")

    @property
    def moved(self) -> NDArray[np.float64]:
        """ΔL_patched − ΔL_target, [N]."""
        return self.column("delta_patched").astype(np.float64) - self.column("delta_target")

    @property
    def gap(self) -> NDArray[np.float64]:
        """ΔL_source − ΔL_target, [N]."""
        return self.column("delta_source").astype(np.float64) - self.column("delta_target")


class ScoreLog:
    """Collects the scores of numbered rows over many batches; they stay tensors, on their device, until they are split.

    A row's steps are added in order.
    """

    def __init__(self) -> None:
        self._rows: list[NDArray[np.int64]] = []
        self._scores: list[Float[Tensor, "C 10"]] = []

    def add(self, rows: Iterable[int] | NDArray[np.int64], scores: Float[Tensor, "C 10"]) -> None:
        """Add the scores of C steps, and the row of each; -1 leaves out a step."""
        if len(scores):
            self._rows.append(np.fromiter(rows, np.int64))
            self._scores.append(scores)

    def split(self, rows: int) -> list[Steps]:
        """Return the steps of each row, from 0 to `rows` - 1."""
        if not self._rows:
            return [Steps() for _ in range(rows)]
        of = np.concatenate(self._rows)
        order = of.argsort(kind="stable")
        values = torch.cat(self._scores).cpu().numpy()[order]
        ends = np.searchsorted(of[order], np.arange(rows + 1))
        return [Steps(values[first:last]) for first, last in pairwise(ends)]


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

    def score(
        self, patched: Float[Tensor, "C V"], counts: list[int], applied: Sequence[bool] | Bool[Tensor, " C"]
    ) -> Float[Tensor, "C 10"]:
        """Score C patched positions; the first `counts[0]` belong to the first context, and so on.

        `applied` states for each position whether its patch was applied. The columns are in the order of Step's fields.
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
            torch.as_tensor(applied, device=patched.device),
        )
        return torch.stack([column.float() for column in columns], dim=1)


def score_cells(
    bounds: NDArray[np.int64],
    contexts: Callable[[slice], Contexts],
    logits: Callable[[slice], Float[Tensor, "N V"]],
    applied: NDArray[np.bool_],
) -> Float[Tensor, "C 10"]:
    """Score C patched positions, sorted by context, a few at a time, so that few logits are in memory.

    `bounds` has the first position of each of B contexts, and C. `contexts` computes a range of the contexts, `logits`
    the patched logits of a range of the positions.
    """
    scores = [torch.empty(0, len(_COLUMNS))]
    for block in range(0, len(bounds) - 1, CONTEXTS_AT_ONCE):
        ends = bounds[block : block + CONTEXTS_AT_ONCE + 1]
        of_block = contexts(slice(block, block + len(ends) - 1))
        for first in range(ends[0], ends[-1], UNEMBED_AT_ONCE):
            some = slice(first, min(first + UNEMBED_AT_ONCE, int(ends[-1])))
            counts = np.diff(ends.clip(some.start, some.stop)).tolist()
            scores.append(of_block.score(logits(some), counts, applied[some].tolist()))
    return torch.cat(scores[1:] or scores)


def delta(
    logits: Float[Tensor, "N V"], y_clean: Int[Tensor, " N"], y_corrupt: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Compute ΔL = logit(y_corrupt) − logit(y_clean)."""
    return _at(logits, y_corrupt) - _at(logits, y_clean)


def transfer_scores(
    delta_clean: NDArray[np.float32],
    delta_corrupted: NDArray[np.float32],
    delta_patched: NDArray[np.float32],
    *,
    agree: NDArray[np.bool_],
    applied: NDArray[np.bool_],
    small_denominator: float,
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return CTS = (ΔL_patch − ΔL_clean) / (ΔL_corrupt − ΔL_clean), the recovered fraction of N tokens, and its status.

    CTS is NaN, never 0, if both models predict the same token (`agree`: 0/0), if the absolute denominator is below
    `small_denominator` (in logits: the quotient would be noise), or if the schedule did not apply the patch.
    """
    denominator = delta_corrupted.astype(np.float64) - delta_clean
    small = np.abs(denominator) < small_denominator
    status = np.select([~applied, agree, small], ["unscheduled", "agree", "small_denominator"], "ok")
    ok = status == "ok"
    moved = delta_patched.astype(np.float64) - delta_clean
    return np.divide(moved, denominator, out=np.full(len(ok), np.nan), where=ok), status


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
    if counts == [1] * len(logs):
        return torch.linalg.vecdot(logs, probabilities)
    parts = zip(logs.split(counts), probabilities, strict=True)
    return torch.cat([torch.mv(part, weights) for part, weights in parts])
