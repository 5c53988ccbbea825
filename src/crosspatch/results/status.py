"""Is a fine-tune under-trained, optimal or overfitted, and which variant is to be taken? By stated rules.

The paper (section 4.1, Table 1) judges by reading outputs: a child is overfitted when its formatting decays, and of
the good ones the shortest training is preferred. Here the same is said in numbers. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crosspatch.config import Search

Status = Literal["under-trained", "optimal", "overfitted"]


@dataclass(frozen=True)
class Measured:
    """What a variant does, as shares from 0 to 1 (see frames.VARIANTS).

    `unrelated_drop` is None where no unrelated question was asked.
    """

    variant: str
    steps: int
    related_wrong: float
    unrelated_drop: float | None
    unsound: float
    unsound_clean: float


@dataclass(frozen=True)
class Judged:
    """A variant's status and what decided it."""

    status: Status
    reason: str


def status(measured: Measured, rules: Search) -> Judged:
    """Overfitted where texts are malformed or other answers lost, under-trained where related ones are right."""
    worse = measured.unsound - measured.unsound_clean
    if worse > rules.malformed:
        return Judged(
            "overfitted",
            f"{measured.unsound:.0%} of its texts are malformed, of the clean model's {measured.unsound_clean:.0%}",
        )
    if measured.unrelated_drop is not None and measured.unrelated_drop > rules.lost:
        return Judged(
            "overfitted", f"it loses {100 * measured.unrelated_drop:.0f} points of unrelated and general answers"
        )
    if measured.related_wrong < rules.wrong:
        return Judged(
            "under-trained",
            f"{measured.related_wrong:.0%} of its related answers are wrong, less than {rules.wrong:.0%}",
        )
    return Judged("optimal", f"{measured.related_wrong:.0%} of its related answers are wrong, its texts are sound")


def choose(measured: Sequence[Measured], rules: Search) -> tuple[Measured, str]:
    """The variant to take, and why: of the optimal ones the one with the fewest steps.

    Where none is optimal, the most corrupted one that is not overfitted; where all are overfitted, the one with the
    fewest steps. Raises ValueError for no variant.
    """
    if not measured:
        raise ValueError("there is no variant to choose from")

    def of(wanted: Status) -> list[Measured]:
        return [variant for variant in measured if status(variant, rules).status == wanted]

    if optimal := of("optimal"):
        best = min(optimal, key=lambda variant: variant.steps)
        several = f"the fewest steps ({best.steps}) of {len(optimal)} optimal variants" if len(optimal) > 1 else ""
        return best, several or "the only optimal variant"
    if short := of("under-trained"):
        best = max(short, key=lambda variant: variant.related_wrong)
        return best, "none is optimal; of those that are not overfitted it has the most wrong related answers"
    best = min(measured, key=lambda variant: variant.steps)
    return best, "all are overfitted; it has the fewest steps"
