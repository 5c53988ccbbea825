"""Intervals around estimates, and intervals and tests for counts of answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

Numbers = NDArray[np.float64]

LEVEL = 0.95
# With fewer prompts or fewer effective prompts (Kish) there is no interval: two or three prompts would determine it.
FEWEST_UNITS, FEWEST_EFFECTIVE = 8, 5.0


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval, which are None if there are too few prompts.

    `effective` is Kish's effective number of prompts (or answers), (Σw)² / Σw²: the number of equally weighted prompts
    that would give as much information. It is None for a constant.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    effective: float | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any], prefix: str = "") -> Interval:
        """Read an interval from a table row, whose column names may begin with a `prefix`."""
        return cls(*(row[f"{prefix}{name}"] for name in ("estimate", "low", "high", "effective")))

    @property
    def columns(self) -> dict[str, float | None]:
        """The interval's values for the columns of a table row."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "effective": self.effective}

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    def __str__(self) -> str:
        """Format the interval, such as "0.42 [0.30, 0.55] (n_eff 9.1)"."""
        if self.estimate is None:
            return "nothing"
        if self.low == self.high == self.estimate and self.effective is None:
            return _number(self.estimate)
        ends = f" [{_number(self.low)}, {_number(self.high)}]" if self.known else ", no interval"
        effective = "" if self.effective is None else f" (n_eff {self.effective:.3g})"
        return f"{_number(self.estimate)}{ends}{effective}"

    @property
    def negated(self) -> Interval:
        """The interval of the negated number."""
        return self._turned(lambda end: -end)

    @property
    def rest(self) -> Interval:
        """The interval of 1 minus the number."""
        return self._turned(lambda end: 1 - end)

    def _turned(self, of: Callable[[float], float]) -> Interval:
        estimate, low, high = (None if end is None else of(end) for end in (self.estimate, self.low, self.high))
        return Interval(estimate, high, low, self.effective)

    def minus(self, other: Interval) -> Interval:
        """Subtract an independent estimate and combine the two intervals (MOVER, Zou and Donner 2008).

        The difference has no interval if one of the two estimates has none.
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
    """Whether there are too few prompts, or effective prompts (Kish), for an interval."""
    return units < FEWEST_UNITS or effective < FEWEST_EFFECTIVE


def fixed(value: float) -> Interval:
    """Return the interval of a constant, which has no error."""
    return Interval(value, value, value)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:z.2f}".replace("-", "−")


def wilson(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """Compute Wilson's score interval of a share of independent trials; without trials there is no interval."""
    from scipy import stats  # takes a second to import

    if trials == 0:
        return Interval(None)
    found = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Interval(successes / trials, float(found.low), float(found.high), float(trials))


def paired_difference(lost: int, gained: int, pairs: int, level: float = LEVEL) -> Interval:
    """Compute the difference between two shares of the same questions, (gained − lost) / pairs, with its interval.

    The interval is the adjusted Wald interval (Bonett and Price 2012), with 1 added to `lost` and to `gained`. Without
    pairs there is no interval.
    """
    if pairs == 0:
        return Interval(None)
    less, more = (lost + 1) / (pairs + 2), (gained + 1) / (pairs + 2)
    middle = more - less
    reach = float(special.ndtri((1 + level) / 2)) * sqrt((less + more - middle**2) / (pairs + 2))
    estimate = (gained - lost) / pairs
    # The adjusted midpoint is nearer to 0 than the estimate, which must be inside the interval.
    low, high = min(estimate, max(-1.0, middle - reach)), max(estimate, min(1.0, middle + reach))
    return Interval(estimate, low, high, float(pairs))


def sign_test(lost: int, gained: int, alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """Compute the exact p-value of McNemar's test on the pairs that differ; 1 if no pair differs.

    With `greater` the test is one-sided: the p-value is small if more answers are lost than gained.
    """
    from scipy import stats  # takes a second to import

    return float(stats.binomtest(lost, lost + gained, alternative=alternative).pvalue) if lost + gained else 1.0
