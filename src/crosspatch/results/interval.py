"""Intervals: of a share of independent answers, and of a ratio of sums over prompts.

Tokens of one text are not independent, so prompts are what is drawn anew; several seeds are drawn above them. Knows
numbers only, not what they count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Numbers = NDArray[np.float64]

LEVEL = 0.95
# With fewer units a bootstrap says too little: its intervals miss the truth more often than they claim.
FEWEST_UNITS = 8
DRAWS = 2000


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


@dataclass(frozen=True)
class Ratios:
    """K ratios of sums over N units (prompts, or seeds): [K, N] sums of each unit above and below the line."""

    above: Numbers
    below: Numbers

    def values(self, counts: Numbers) -> Numbers:
        """The ratios [draws, K] where each unit counts so often: [draws, N]."""
        return (counts @ self.above.T) / (counts @ self.below.T)

    def defined(self, counts: Numbers) -> NDArray[np.bool_]:
        """In which draws something stands below the line of every ratio."""
        return (counts @ self.below.T != 0).all(1)

    def errors(self, counts: Numbers, values: Numbers, weights: Numbers) -> Numbers:
        """Linearized standard errors [draws] of the weighted sum of the ratios."""
        # Each unit's share in the error, of each ratio: [draws, K, N].
        left = self.above[None] - values[..., None] * self.below[None]
        shares = np.einsum("k,dkn->dn", weights, left / (counts @ self.below.T)[..., None])
        return np.sqrt((counts * shares**2).sum(1) * self.units / (self.units - 1))

    @property
    def rest(self) -> Ratios:
        """What each leaves to 1."""
        return Ratios(self.below - self.above, self.below)

    @property
    def units(self) -> int:
        """How many units have anything to say, to the ratio that has fewest of them."""
        return int(((self.above != 0) | (self.below != 0)).sum(1).min())


def resamples(units: int, rng: np.random.Generator, draws: int | None = None) -> Numbers:
    """How often each unit is in each of several bootstrap samples of as many units: [draws, units]."""
    return rng.multinomial(units, np.full(units, 1 / units), size=draws or DRAWS).astype(np.float64)


def bootstrap(
    ratios: Ratios, counts: Numbers, weights: Sequence[float] = (1.0,), *, share: bool = False, level: float = LEVEL
) -> Interval:
    """The interval of a weighted sum of ratios (1 and -1: a difference) by resampling units; `counts` says how.

    The hull of two intervals, since neither alone has its coverage with a dozen units: percentiles, taken further out
    as Hesterberg (2015) has it for few units, and the studentized bootstrap (Efron and Tibshirani 1993, chapter 12).
    None for fewer than 8 units with anything to say. Units that are all alike give one of no width; a `share`, which
    lies between 0 and 1, that of as many independent trials, so that 0 of 12 prompts is not certainty.
    """
    weighing, once = np.array(weights), np.ones((1, counts.shape[1]))
    if not ratios.defined(once)[0]:
        return Interval(None)
    estimates = ratios.values(once)
    estimate, units = float((estimates @ weighing)[0]), ratios.units
    if units < FEWEST_UNITS:
        return Interval(estimate)
    error = float(ratios.errors(once, estimates, weighing)[0])
    if error < 1e-12:
        return wilson(round(estimate * units), units, level) if share else Interval(estimate, estimate, estimate)
    counts = counts[ratios.defined(counts)]
    values = ratios.values(counts)
    drawn, errors = values @ weighing, ratios.errors(counts, values, weighing)
    tail = (1 - level) / 2
    low, high = _percentiles(drawn, units, level)
    told = errors > 1e-9 * error
    upper, lower = np.quantile((drawn[told] - estimate) / errors[told], [tail, 1 - tail])
    low, high = min(low, estimate - lower * error), max(high, estimate - upper * error)
    return Interval(estimate, *(float(np.clip(end, 0, 1) if share else end) for end in (low, high)))


def largest_step(ratios: Ratios, counts: Numbers, level: float = LEVEL) -> tuple[int | None, Interval]:
    """The largest of the steps from 0 over K ratios to 1, and to which of these it leads: K where it is to the 1.

    By percentiles alone, taken further out for few units; the largest of several is drawn too large rather than too
    small. None for fewer than 8 units, or a ratio that is not defined.
    """
    once = np.ones((1, counts.shape[1]))
    if ratios.units < FEWEST_UNITS or not ratios.defined(once)[0]:
        return None, Interval(None)
    [steps] = _steps(ratios.values(once))
    drawn = _steps(ratios.values(counts[ratios.defined(counts)])).max(1)
    return int(steps.argmax()), Interval(float(steps.max()), *_percentiles(drawn, ratios.units, level))


def _steps(values: Numbers) -> Numbers:
    """From 0 over each row's values to 1."""
    return np.diff(np.pad(values, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))), axis=1)


def _percentiles(drawn: Numbers, units: int, level: float) -> tuple[float, float]:
    further = stats.norm.cdf(np.sqrt(units / (units - 1)) * stats.t.ppf((1 - level) / 2, units - 1))
    low, high = np.quantile(drawn, [further, 1 - further])
    return float(low), float(high)


def over_seeds(ratios: Ratios, weights: Sequence[float] = (1.0,), level: float = LEVEL) -> Interval:
    """The interval where units are seeds, of which there are few: Student's t on the linearized standard error.

    A seed's problems and its child are drawn together, so it holds what varies between prompts too. None for one seed.
    """
    weighing, once = np.array(weights), np.ones((1, ratios.above.shape[1]))
    if not ratios.defined(once)[0]:
        return Interval(None)
    estimates = ratios.values(once)
    estimate, units = float((estimates @ weighing)[0]), ratios.units
    if units < 2:
        return Interval(estimate)
    reach = float(stats.t.ppf((1 + level) / 2, units - 1) * ratios.errors(once, estimates, weighing)[0])
    return Interval(estimate, estimate - reach, estimate + reach)
