"""An interval around an estimate, and the intervals and tests of counted answers.

Works on numbers only; what they count is up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Numbers = NDArray[np.float64]

LEVEL = 0.95
# With fewer prompts, or fewer effective ones (Kish), there is no interval: two or three prompts would decide it.
FEWEST_UNITS, FEWEST_EFFECTIVE = 8, 5.0


@dataclass(frozen=True)
class Interval:
    """An estimate with the two ends of its interval, both None where there are too few prompts for one.

    `effective` is Kish's effective number of prompts (or answers), (Σw)² / Σw²: the number of prompts of equal weight
    that would give as much information. None for a fixed number.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    effective: float | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any], prefix: str = "") -> Interval:
        """The interval in a table's row, whose columns may begin with a `prefix`."""
        return cls(*(row[f"{prefix}{name}"] for name in ("estimate", "low", "high", "effective")))

    @property
    def columns(self) -> dict[str, float | None]:
        """Its columns of a table's row."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "effective": self.effective}

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    def __str__(self) -> str:
        """Such as "0.42 [0.30, 0.55] (n_eff 9.1)"."""
        if self.estimate is None:
            return "nothing"
        if self.low == self.high == self.estimate and self.effective is None:
            return _number(self.estimate)
        ends = f" [{_number(self.low)}, {_number(self.high)}]" if self.known else ", no interval"
        effective = "" if self.effective is None else f" (n_eff {self.effective:.3g})"
        return f"{_number(self.estimate)}{ends}{effective}"

    @property
    def negated(self) -> Interval:
        """The interval of the number with the other sign."""
        return self._turned(lambda end: -end)

    @property
    def rest(self) -> Interval:
        """The interval of 1 minus the number."""
        return self._turned(lambda end: 1 - end)

    def _turned(self, of: Callable[[float], float]) -> Interval:
        estimate, low, high = (None if end is None else of(end) for end in (self.estimate, self.low, self.high))
        return Interval(estimate, high, low, self.effective)

    def minus(self, other: Interval) -> Interval:
        """The difference of two independent estimates, from the two intervals (MOVER, Zou and Donner 2008).

        No interval where one of them has none.
        """
        if self.estimate is None or other.estimate is None:
            return Interval(None)
        estimate = self.estimate - other.estimate
        counts = [each.effective for each in (self, other) if each.effective is not None]
        effective = min(counts) if counts else None
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return Interval(estimate, effective=effective)
        below = sqrt((self.estimate - self.low) ** 2 + (other.high - other.estimate) ** 2)
        above = sqrt((self.high - self.estimate) ** 2 + (other.estimate - other.low) ** 2)
        return Interval(estimate, estimate - below, estimate + above, effective)


def too_few(units: int, effective: float) -> bool:
    """Whether these prompts, or effective ones (Kish), are too few for an interval."""
    return units < FEWEST_UNITS or effective < FEWEST_EFFECTIVE


def fixed(value: float) -> Interval:
    """A number that is known without error."""
    return Interval(value, value, value)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:z.2f}".replace("-", "−")


def wilson(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share of independent trials; none without trials."""
    if trials == 0:
        return Interval(None)
    found = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Interval(successes / trials, float(found.low), float(found.high), float(trials))


def paired_difference(lost: int, gained: int, pairs: int, level: float = LEVEL) -> Interval:
    """The difference between two shares of the same questions, (gained − lost) / pairs (Bonett and Price 2012).

    An adjusted Wald interval: one question more is counted as lost, and one as gained. None without pairs.
    """
    if pairs == 0:
        return Interval(None)
    less, more = (lost + 1) / (pairs + 2), (gained + 1) / (pairs + 2)
    middle = more - less
    reach = float(stats.norm.ppf((1 + level) / 2)) * sqrt((less + more - middle**2) / (pairs + 2))
    estimate = (gained - lost) / pairs
    # The adjusted middle lies nearer to 0 than the estimate.
    low, high = min(estimate, max(-1.0, middle - reach)), max(estimate, min(1.0, middle + reach))
    return Interval(estimate, low, high, float(pairs))


def sign_test(lost: int, gained: int, alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """The exact p-value of McNemar's test on the pairs that differ; 1 if none does.

    `greater` is one-sided: the probability that as many or more are lost.
    """
    return float(stats.binomtest(lost, lost + gained, alternative=alternative).pvalue) if lost + gained else 1.0
