"""An interval round an estimate, and that of a share of independent answers.

Knows numbers only, not what they count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Numbers = NDArray[np.float64]

LEVEL = 0.95
# With fewer units a bootstrap says too little: its intervals miss the truth more often than they claim.
FEWEST_UNITS = 8


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it; both ends are None where there is too little to say."""

    estimate: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any], prefix: str = "") -> Interval:
        """That of a table's row, whose columns may begin with a `prefix`."""
        return cls(*(row[f"{prefix}{end}"] for end in ("estimate", "low", "high")))

    @property
    def columns(self) -> dict[str, float | None]:
        """Its part of a table's row."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    def __str__(self) -> str:
        """Such as "0.42 [0.30, 0.55]"; without an interval the estimate alone."""
        if self.estimate is None:
            return "nothing"
        ends = f" [{_number(self.low)}, {_number(self.high)}]" if self.known else ", no interval"
        return f"{_number(self.estimate)}{ends}"

    def above(self, other: Interval) -> bool:
        """Whether all of it lies above all of another one; False where either has no interval."""
        return self.low is not None and other.high is not None and self.low > other.high


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:z.2f}".replace("-", "−")


def wilson(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share of independent trials; none without trials."""
    if trials == 0:
        return Interval(None)
    found = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Interval(successes / trials, float(found.low), float(found.high))


def sign_test(lost: int, gained: int, alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """Exact p-value that pairs which differ do so by chance (McNemar's test, exact); 1 where none does.

    `greater` is one-sided: how likely as many or more are lost.
    """
    return float(stats.binomtest(lost, lost + gained, alternative=alternative).pvalue) if lost + gained else 1.0
