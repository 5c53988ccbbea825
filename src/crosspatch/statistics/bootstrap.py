"""The bootstrap of ratios of sums: prompts are resampled, and many ratios are measured on the same resamples.

Thousands of intervals of a run share their resamples, so they are computed together: a ratio and its error in a
resample are made of sums over prompts, and all these sums are one matrix product. Works on numbers only, not on what
they count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations_with_replacement
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from crosspatch.statistics.interval import LEVEL, Interval, Numbers, too_few, wilson

T = TypeVar("T")

DRAWS = 2000
# How many contrasts are computed at once, and the most ratios of a contrast whose products of sums are all taken.
_AT_ONCE, _FEW = 128, 2
# A sum of squares this small beside its terms has lost its digits, and is taken again as it is written.
_LOST = 1e-8
# With fewer seeds there is no interval over them.
FEWEST_SEEDS = 5


@dataclass(frozen=True)
class Ratios:
    """K ratios of sums over N units (prompts): each one's part in numerator (above) and denominator (below), [K, N]."""

    above: Numbers
    below: Numbers

    def values(self, counts: Numbers) -> Numbers:
        """The ratios [draws, K] where each unit counts so often: [draws, N]."""
        return (counts @ self.above.T) / (counts @ self.below.T)

    def defined(self, counts: Numbers) -> NDArray[np.bool_]:
        """In which draws no ratio has a denominator of 0."""
        return (counts @ self.below.T != 0).all(1)

    def errors(self, counts: Numbers, values: Numbers, weights: Numbers) -> Numbers:
        """Linearized standard errors [draws] of the weighted sum of the ratios."""
        return self.spread(counts, weights / (counts @ self.below.T), values)

    def spread(self, counts: Numbers, shares: Numbers, values: Numbers) -> Numbers:
        """The same where the weights over the denominators, [draws, K], are known."""
        # Each unit's part in the error, [draws, N].
        parts = shares @ self.above - (shares * values) @ self.below
        return np.sqrt(np.einsum("dn,dn,dn->d", counts, parts, parts) * self.units / (self.units - 1))

    def influences(self, weights: Numbers) -> Numbers:
        """How far the weighted sum of the ratios moves when a unit is left out, [N]: the jackknife's values.

        A unit that has most of a denominator has more influence than in the linearized error.
        """
        leverage = np.minimum(np.abs(self.below / self.below.sum(1)[:, None]), 1 - 1e-6)
        return weights @ (self.residuals / (1 - leverage))

    @property
    def residuals(self) -> Numbers:
        """Each unit's part in the linearized error of each ratio, [K, N]."""
        totals = self.below.sum(1)[:, None]
        return self.around(self.above.sum(1) / totals[:, 0]).above / totals

    @property
    def effective(self) -> float:
        """Kish's effective number of units, (Σw)² / Σw² of their parts in a denominator; the smallest of all ratios."""
        sizes = np.abs(self.below)
        squares = (sizes**2).sum(1)
        return float(np.divide(sizes.sum(1) ** 2, squares, out=np.zeros(len(sizes)), where=squares > 0).min())

    @property
    def few(self) -> bool:
        """Whether there are too few units for an interval."""
        return too_few(self.units, self.effective)

    @property
    def rest(self) -> Ratios:
        """What each leaves to 1."""
        return Ratios(self.below - self.above, self.below)

    @property
    def units(self) -> int:
        """How many units have something in the ratio that has fewest of them."""
        return int(((self.above != 0) | (self.below != 0)).sum(1).min())

    def around(self, values: Numbers) -> Ratios:
        """The same less such `values` [K], so that every ratio is what it lies beyond them."""
        return Ratios(self.above - values[:, None] * self.below, self.below)


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of ratios (1 and -1: a difference); a `share` lies between 0 and 1."""

    ratios: Ratios
    weights: Sequence[float] = (1.0,)
    share: bool = False


def resamples(units: int, rng: np.random.Generator, draws: int | None = None) -> Numbers:
    """How often each unit is in each of several bootstrap samples of as many units: [draws, units]."""
    return rng.multinomial(units, np.full(units, 1 / units), size=draws or DRAWS).astype(np.float64)


def seeded_resamples(units: int, seed: int) -> tuple[Numbers, np.random.Generator]:
    """Resamples of `units` units, drawn with the experiment's seed, and the generator for further draws."""
    counts, after = _seeded(units, seed, DRAWS)
    return counts, deepcopy(after)


@lru_cache(4)
def _seeded(units: int, seed: int, draws: int) -> tuple[Numbers, np.random.Generator]:
    # The same for each layer and each table, and they take as long to draw as to use.
    rng = np.random.default_rng([seed, units])
    counts = resamples(units, rng, draws)
    counts.flags.writeable = False
    return counts, rng


def sums_by(
    rows: pl.DataFrame, units: pl.DataFrame, by: Sequence[str], sums: Mapping[str, pl.Expr]
) -> dict[tuple[Any, ...], dict[str, Numbers]]:
    """For each value of `by` the sums over its rows after each unit, [N] each: 0 after a unit without rows.

    `units` has a row for each unit, in the order of the arrays: its prompt_id, or its seed and prompt_id.
    """
    summed = rows.group_by(*by, *units.columns, maintain_order=True).agg(**sums)
    placed = summed.join(units.with_row_index("unit"), on=units.columns, maintain_order="left")
    found = {}
    for key, part in placed.partition_by(by, as_dict=True, maintain_order=True).items():
        table = np.zeros((len(sums), units.height))
        table[:, part["unit"].to_numpy()] = part.select(pl.col(*sums).cast(pl.Float64)).to_numpy().T
        found[key] = dict(zip(sums, table, strict=True))
    return found


def bootstrap(
    ratios: Ratios, counts: Numbers, weights: Sequence[float] = (1.0,), *, share: bool = False, level: float = LEVEL
) -> Interval:
    """The interval of one contrast: see `bootstraps`."""
    return bootstraps([Contrast(ratios, weights, share)], counts, level)[0]


def bootstraps(contrasts: Sequence[Contrast], counts: Numbers, level: float = LEVEL) -> list[Interval]:
    """The interval of each contrast by resampling units; all have the same resamples, `counts`.

    The hull of two intervals, since neither alone has its coverage with a dozen units: percentiles, taken further out
    as Hesterberg (2015) has it for few units, and the studentized bootstrap (Efron and Tibshirani 1993, chapter 12)
    with the jackknife's error. Where units differ in weight it is widened as Student's t is for the effective number of
    units (Kish). None for fewer than 8 units, or fewer than 5 effective ones. Units that are all alike give one of no
    width; a share that of as many independent trials, so that 0 of 12 prompts is not certainty.
    """
    found: list[Interval | _Undrawn] = [_before_drawing(contrast, level) for contrast in contrasts]
    of_size: dict[int, list[int]] = {}
    for place, one in enumerate(found):
        if isinstance(one, _Undrawn):
            of_size.setdefault(len(one.estimates), []).append(place)
    for size, places in of_size.items():
        step = _AT_ONCE if size <= _FEW else 1
        for start in range(0, len(places), step):
            some = places[start : start + step]
            undrawn = [one for place in some if isinstance(one := found[place], _Undrawn)]
            for place, interval in zip(some, _drawn(undrawn, counts, level), strict=True):
                found[place] = interval
    return [one for one in found if isinstance(one, Interval)]


def drawn_together(rows: Iterable[tuple[T, Contrast | Interval]], counts: Numbers) -> Iterator[tuple[T, Interval]]:
    """Rows with their intervals, in the same order; the intervals of contrasts are drawn together."""
    found = list(rows)
    intervals = iter(bootstraps([one for _, one in found if isinstance(one, Contrast)], counts))
    for what, one in found:
        yield what, next(intervals) if isinstance(one, Contrast) else one


@dataclass(frozen=True)
class _Undrawn:
    """A contrast whose interval has to be drawn: its ratios [K], its value and its errors in the units as they are.

    `error` is linearized, as the errors in draws are; `jackknife` is the larger one that the interval is made with.
    """

    contrast: Contrast
    estimates: Numbers
    estimate: float
    error: float
    jackknife: float
    units: int
    effective: float


def _before_drawing(contrast: Contrast, level: float) -> Interval | _Undrawn:
    """The interval where it needs no draws."""
    ratios, weights = contrast.ratios, np.array(contrast.weights)
    once = np.ones((1, ratios.below.shape[1]))
    if not ratios.defined(once)[0]:
        return Interval(None)
    estimates = ratios.values(once)
    estimate, units, effective = float((estimates @ weights)[0]), ratios.units, ratios.effective
    if ratios.few:
        return Interval(estimate, effective=effective)
    error = float(ratios.around(estimates[0]).errors(once, np.zeros_like(estimates), weights)[0])
    if error < 1e-12:
        if contrast.share:
            alike = wilson(round(estimate * int(effective)), int(effective), level)
            return replace(alike, estimate=estimate, effective=effective)
        return Interval(estimate, estimate, estimate, effective)
    return _Undrawn(contrast, estimates[0], estimate, error, _jackknife(ratios, weights, units), units, effective)


def _jackknife(ratios: Ratios, weights: Numbers, units: int) -> float:
    """The jackknife's standard error of a weighted sum of ratios."""
    return float(np.sqrt((ratios.influences(weights) ** 2).sum() * (units - 1) / units))


def _drawn(contrasts: Sequence[_Undrawn], counts: Numbers, level: float) -> Iterator[Interval]:
    """The intervals of R contrasts of K ratios each."""
    weights = np.array([one.contrast.weights for one in contrasts])
    with np.errstate(divide="ignore", invalid="ignore"):
        values, errors = _in_draws(contrasts, weights, counts)
        known = errors > 1e-9 * np.array([[one.error] for one in contrasts])
        estimates = np.array([[one.estimate] for one in contrasts])
        studentized = np.where(known, (values - estimates) / errors, np.nan)
    tail = (1 - level) / 2
    further = np.array([_further(one.units, level) for one in contrasts])
    lows, highs = _quantiles(values, further), _quantiles(values, 1 - further)
    tails = np.full(len(contrasts), tail)
    uppers, lowers = _quantiles(studentized, tails), _quantiles(studentized, 1 - tails)
    for one, low, high, upper, lower in zip(contrasts, lows, highs, uppers, lowers, strict=True):
        hull = min(low, one.estimate - lower * one.jackknife), max(high, one.estimate - upper * one.jackknife)
        ends = _widened(one.estimate, hull, one.units, one.effective, level)
        if one.contrast.share:
            ends = max(ends[0], 0.0), min(ends[1], 1.0)
        yield Interval(one.estimate, *ends, one.effective)


def _in_draws(contrasts: Sequence[_Undrawn], weights: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """Each contrast's value and error in each draw, [R, draws]: NaN where a ratio is not defined."""
    # What lies beyond the estimates is small, so its squares keep their digits.
    centred = [one.contrast.ratios.around(one.estimates) for one in contrasts]
    above = _sums(np.stack([one.contrast.ratios.above for one in contrasts]), counts)
    under = _sums(np.stack([ratios.below for ratios in centred]), counts)
    under[under == 0] = np.nan
    values, shares = above / under, weights[..., None] / under
    beyond = values - np.stack([one.estimates for one in contrasts])[..., None]
    if weights.shape[1] <= _FEW:
        errors = _errors(centred, shares, beyond, counts)
    else:
        errors = np.stack([one.spread(counts, *of) for one, *of in zip(centred, shares.mT, beyond.mT, strict=True)])
    return np.einsum("rk,rkd->rd", weights, values), errors


def _errors(ratios: Sequence[Ratios], shares: Numbers, values: Numbers, counts: Numbers) -> Numbers:
    """What `Ratios.spread` gives, [R, draws], multiplied out: a square is a sum of products that no draw changes."""
    parts = np.stack([np.concatenate([one.above, one.below]) for one in ratios])
    factors = np.concatenate([shares, -shares * values], axis=1)
    pairs = list(combinations_with_replacement(range(parts.shape[1]), 2))
    products = _sums(np.stack([parts[:, i] * parts[:, j] for i, j in pairs], axis=1), counts)
    squares, sizes = np.zeros_like(products[:, 0]), np.zeros_like(products[:, 0])
    for place, (i, j) in enumerate(pairs):
        term = (1 + (i != j)) * factors[:, i] * factors[:, j] * products[:, place]
        squares += term
        sizes += np.abs(term)
    units = np.array([[one.units] for one in ratios])
    errors = np.sqrt(np.maximum(squares, 0.0) * units / (units - 1))
    lost = squares < _LOST * sizes
    for row in np.flatnonzero(lost.any(1)).tolist():
        draws = lost[row]
        errors[row, draws] = ratios[row].spread(counts[draws], shares[row][:, draws].T, values[row][:, draws].T)
    return errors


def _sums(columns: Numbers, counts: Numbers) -> Numbers:
    """Sums over units of [R, M, N] in each draw: [R, M, draws]."""
    # One product of two matrices: as many small ones take three times as long.
    return (columns.reshape(-1, columns.shape[2]) @ counts.T).reshape(*columns.shape[:2], -1)


def percentiles(estimate: float, drawn: Numbers, ratios: Ratios, level: float = LEVEL) -> Interval:
    """The percentile interval of a number made of ratios, from its values in the draws, further out for few units.

    None as in `bootstraps`.
    """
    units, effective = ratios.units, ratios.effective
    if ratios.few:
        return Interval(estimate, effective=effective)
    further = _further(units, level)
    low, high = np.quantile(drawn, [further, 1 - further])
    ends = min(float(low), estimate), max(float(high), estimate)
    return Interval(estimate, *_widened(estimate, ends, units, effective, level), effective)


def largest_step(ratios: Ratios, counts: Numbers, level: float = LEVEL) -> tuple[int | None, Interval]:
    """The largest of the steps from 0 over K ratios to 1, and to which of these it leads: K where it is to the 1.

    The largest of several estimates is too large. So the lower end allows for how far the largest of those steps that
    may be the largest lies above its own truth (Chernozhukov, Lee and Rosen 2013); the upper end is the largest upper
    end of any step. No interval as in `bootstraps`, and nothing for a ratio that is not defined.
    """
    once, units, effective = np.ones((1, counts.shape[1])), ratios.units, ratios.effective
    if not ratios.defined(once)[0]:
        return None, Interval(None)
    [steps] = _steps(ratios.values(once))
    estimate = float(steps.max())
    if ratios.few:
        return int(steps.argmax()), Interval(estimate, effective=effective)
    some = counts[ratios.defined(counts)]
    values, weights = ratios.values(some), _step_weights(len(ratios.above))
    drawn, errors = _steps(values), np.stack([ratios.errors(some, values, of_step) for of_step in weights], axis=1)
    error = np.array([_jackknife(ratios, of_step, units) for of_step in weights])
    if error.max() < 1e-12:
        return int(steps.argmax()), Interval(estimate, estimate, estimate, effective)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentized = np.where(errors > 1e-9 * error.max(), (drawn - steps) / errors, 0.0)
    # By the jackknife's error alone: widened for unequal prompts, as ratios are, it would be covered too often.
    tail = (1 - level) / 2
    lower, upper = np.quantile(studentized, [1 - tail, tail], axis=0)
    lows, highs = steps - lower * error, steps - upper * error
    may_be_largest = highs >= lows.max()
    # Where several may be the largest, not all of their upper ends miss: then the lower end may miss as often as both.
    missing = tail * min(2, int(may_be_largest.sum()))
    beyond = float(np.quantile(studentized[:, may_be_largest].max(1), 1 - missing))
    low = float((steps - beyond * error)[may_be_largest].max())
    return int(steps.argmax()), Interval(estimate, min(low, estimate), max(float(highs.max()), estimate), effective)


def _step_weights(ratios: int) -> Numbers:
    """The steps from 0 over K ratios to 1 as weights of these, [K + 1, K]; the last one lacks its 1."""
    return np.diff(np.pad(np.eye(ratios), ((1, 1), (0, 0))), axis=0)


def _steps(values: Numbers) -> Numbers:
    """From 0 over each row's values to 1."""
    return np.diff(np.pad(values, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))), axis=1)


def over_seeds(
    ratios: Ratios,
    seeds: NDArray[np.int64],
    prompts: NDArray[np.int64],
    weights: Sequence[float] = (1.0,),
    level: float = LEVEL,
) -> Interval:
    """The interval over seeds and prompts, which are crossed where all seeds were asked the same questions.

    Units are (seed, prompt) pairs, given by their numbers, [N] each. The squared half-width is the sum of the variance
    between seeds and of what prompts add to it (Cameron, Gelbach and Miller 2011), each with its own quantile of
    Student's t. Prompts that no two seeds share add nothing to what seeds have. None for fewer than 5 seeds, 8 prompts
    or 5 effective prompts.
    """
    weighing, once = np.array(weights), np.ones((1, ratios.above.shape[1]))
    if not ratios.defined(once)[0]:
        return Interval(None)
    estimate = float(ratios.values(once)[0] @ weighing)
    parts = weighing @ ratios.residuals
    sizes = np.abs(ratios.below).sum(0)
    by_prompt = np.bincount(prompts, sizes)
    effective = float(by_prompt.sum() ** 2 / (by_prompt**2).sum())
    (n_seeds, between_seeds), (n_prompts, between_prompts) = (
        _between(parts, sizes, clusters) for clusters in (seeds, prompts)
    )
    if n_seeds < FEWEST_SEEDS or too_few(n_prompts, effective):
        return Interval(estimate, effective=effective)
    pairs = int((sizes != 0).sum())
    # What a seed and a prompt have by their meeting is in both sums.
    of_prompts = max(between_prompts - float((parts**2).sum()) * pairs / (pairs - 1), 0.0)
    reach = np.sqrt(_t(n_seeds, level) ** 2 * between_seeds + _t(n_prompts, level) ** 2 * of_prompts)
    return Interval(estimate, float(estimate - reach), float(estimate + reach), effective)


def _between(parts: Numbers, sizes: Numbers, clusters: NDArray[np.int64]) -> tuple[int, float]:
    """How many clusters were counted, and the variance of a sum of parts that only these vary in."""
    of_cluster = np.bincount(clusters, parts)
    count = int((np.bincount(clusters, sizes) != 0).sum())
    return count, float((of_cluster**2).sum() * count / max(count - 1, 1))


def _widened(
    estimate: float, ends: tuple[float, float], units: int, effective: float, level: float
) -> tuple[float, float]:
    """Widen an interval that was made for `units` prompts to the effective number of them."""
    wider = _widening(units, effective, level)
    return estimate + wider * (float(ends[0]) - estimate), estimate + wider * (float(ends[1]) - estimate)


def _widening(units: int, effective: float, level: float) -> float:
    """The width of Student's interval with `effective` prompts over its width with `units` prompts."""
    few, many = (_t(n, level) * np.sqrt(n / (n - 1)) for n in (effective, float(units)))
    return max(1.0, float(few / many))


@lru_cache(4096)
def _t(units: float, level: float) -> float:
    """The quantile of Student's t with one degree of freedom less than units."""
    return float(stats.t.ppf((1 + level) / 2, max(units - 1, 1)))


@cache
def _further(units: int, level: float) -> float:
    """Where percentiles are taken so that they hold for few units (Hesterberg 2015)."""
    return float(stats.norm.cdf(np.sqrt(units / (units - 1)) * stats.t.ppf((1 - level) / 2, units - 1)))


def _quantiles(rows: Numbers, shares: Numbers) -> Numbers:
    """Of each row [draws] the quantile at its share, between two draws by the line through them; NaN is no draw."""
    ordered = np.sort(rows, axis=1)
    at = shares * ((~np.isnan(rows)).sum(1) - 1)
    place = np.floor(at).astype(int)
    low = np.take_along_axis(ordered, place[:, None], 1)[:, 0]
    high = np.take_along_axis(ordered, np.minimum(place + 1, rows.shape[1] - 1)[:, None], 1)[:, 0]
    part, apart = at - place, high - low
    # As numpy does it, to the last digit.
    between = np.where(part < 0.5, low + apart * part, high - apart * (1 - part))
    return np.where(part == 0, low, between)
