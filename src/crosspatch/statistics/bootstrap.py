"""The bootstrap of ratios of sums: prompts are resampled, and all ratios of a table use the same resamples.

A ratio and its error in a resample are made of sums over prompts, and all these sums are one matrix product. Works on
numbers only, not on what they count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from crosspatch.patching.measures import in_half
from crosspatch.statistics.domain import ordered_domains, with_domain
from crosspatch.statistics.interval import LEVEL, Interval, Numbers, too_few, wilson

DRAWS = 2000
# The most ratios of a contrast whose products of sums are all taken.
_FEW = 2
# A sum of squares this small beside its terms has lost its digits, and is computed again from the parts.
_LOST = 1e-8
# With fewer seeds there is no interval over them.
FEWEST_SEEDS = 5


@dataclass(frozen=True)
class Ratios:
    """K ratios of sums over N units (prompts): each one's part in numerator (above) and denominator (below), [K, N].

    A single ratio may be given as [N].
    """

    above: Numbers
    below: Numbers

    def __post_init__(self) -> None:
        for name in ("above", "below"):
            object.__setattr__(self, name, np.atleast_2d(getattr(self, name)))

    def values(self, counts: Numbers | None = None) -> Numbers:
        """The ratios [draws, K] for the counts of units, [draws, N]; None: one draw with every unit once."""
        counts = np.ones((1, self.below.shape[1])) if counts is None else counts
        return (counts @ self.above.T) / (counts @ self.below.T)

    def defined(self, counts: Numbers) -> NDArray[np.bool_]:
        """Whether all denominators are nonzero in each draw, [draws]."""
        return (counts @ self.below.T != 0).all(1)

    @property
    def undefined(self) -> bool:
        """Whether a ratio has a denominator of 0."""
        return not self.below.sum(1).all()

    def errors(self, counts: Numbers, values: Numbers, weights: Numbers) -> Numbers:
        """Linearized standard errors [draws] of the weighted sum of the ratios."""
        shares = weights / (counts @ self.below.T)
        # Each unit's part in the error, [draws, N].
        parts = shares @ self.above - (shares * values) @ self.below
        return np.sqrt(np.einsum("dn,dn,dn->d", counts, parts, parts) * self.units / (self.units - 1))

    def jackknife(self, weights: Numbers) -> float:
        """The jackknife's standard error of the weighted sum: how far it moves when each unit in turn is left out.

        A unit with most of a denominator moves it further than the linearized error says.
        """
        leverage = np.minimum(np.abs(self.below / self.below.sum(1)[:, None]), 1 - 1e-6)
        moved = weights @ (self.residuals / (1 - leverage))
        return float(np.sqrt((moved**2).sum() * (self.units - 1) / self.units))

    @property
    def residuals(self) -> Numbers:
        """Each unit's part in the linearized error of each ratio, [K, N]."""
        totals = self.below.sum(1)[:, None]
        return self.around(self.above.sum(1) / totals[:, 0]).above / totals

    @cached_property
    def effective(self) -> float:
        """Kish's effective number of units, (Σw)² / Σw² of their parts in a denominator; the smallest of all ratios."""
        sizes = np.abs(self.below)
        squares = (sizes**2).sum(1)
        return float(np.divide(sizes.sum(1) ** 2, squares, out=np.zeros(len(sizes)), where=squares > 0).min())

    @property
    def few(self) -> bool:
        """Whether the units are too few for an interval."""
        return too_few(self.units, self.effective)

    @property
    def rest(self) -> Ratios:
        """Each ratio subtracted from 1."""
        return Ratios(self.below - self.above, self.below)

    @cached_property
    def units(self) -> int:
        """The number of units with a nonzero part; the smallest of all ratios."""
        return int(((self.above != 0) | (self.below != 0)).sum(1).min())

    def around(self, values: Numbers) -> Ratios:
        """Each ratio less one of these values, [K]."""
        return Ratios(self.above - values[:, None] * self.below, self.below)


def resamples(units: int, rng: np.random.Generator, draws: int | None = None) -> Numbers:
    """The count of each unit in each of several bootstrap samples of as many units: [draws, units]."""
    return rng.multinomial(units, np.full(units, 1 / units), size=draws or DRAWS).astype(np.float64)


def seeded_resamples(units: int, seed: int) -> tuple[Numbers, np.random.Generator]:
    """Resamples of `units` units, drawn with the experiment's seed, and the generator for further draws."""
    counts, after = _seeded(units, seed, DRAWS)
    return counts, deepcopy(after)


@lru_cache(4)
def _seeded(units: int, seed: int, draws: int) -> tuple[Numbers, np.random.Generator]:
    # All layers and tables use the same ones, and drawing takes as long as using them.
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


def estimates(
    rows: pl.DataFrame,
    domains: Mapping[str, str],
    by: Sequence[str],
    measures: Mapping[str, tuple[pl.Expr, pl.Expr]],
    *,
    seed: int,
    shares: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Each measure, a ratio of two sums, for each domain and value of `by`: these, measure, interval and n_prompts.

    All intervals of a domain are drawn from the same resamples of its prompts. `shares` are the measures that lie
    between 0 and 1. Raises ValueError for a prompt that `domains` lacks.
    """
    known = with_domain(rows, domains)
    sums = {f"{name}{side}": of.sum() for name, both in measures.items() for side, of in zip("+-", both, strict=True)}
    for domain in ordered_domains(known["domain"]):
        of_domain = known.filter(domain=domain)
        prompts = of_domain.select("prompt_id").unique(maintain_order=True)
        counts, _ = seeded_resamples(prompts.height, seed)
        for key, of in sums_by(of_domain, prompts, by, sums).items():
            for measure in measures:
                ratio = Ratios(of[f"{measure}+"], of[f"{measure}-"])
                yield {
                    "domain": domain,
                    **dict(zip(by, key, strict=True)),
                    "measure": measure,
                    **bootstrap(ratio, counts, share=measure in shares).columns,
                    "n_prompts": int((ratio.below != 0).sum()),
                }


def bootstrap(
    ratios: Ratios, counts: Numbers, weights: Sequence[float] = (1.0,), *, share: bool = False, level: float = LEVEL
) -> Interval:
    """The interval of a weighted sum of ratios (1 and -1: a difference) from resamples, [draws, N].

    The hull of two intervals, since neither alone has its coverage with a dozen units: percentiles, taken further out
    as Hesterberg (2015) has it for few units, and the studentized bootstrap (Efron and Tibshirani 1993, chapter 12)
    with the jackknife's error. Where units differ in weight it is widened as Student's t is for the effective number of
    units (Kish). None for fewer than 8 units, or fewer than 5 effective ones. Units that are all alike give an interval
    of no width; for a `share`, which lies between 0 and 1, they give the interval of as many independent trials, so
    that 0 of 12 prompts is not certainty.
    """
    if ratios.undefined:
        return Interval(None)
    [at], weighing = ratios.values(), np.array(weights)
    estimate, units, effective = float(at @ weighing), ratios.units, ratios.effective
    if ratios.few:
        return Interval(estimate, effective=effective)
    # Differences from the estimates are small, so their squares keep their digits.
    centred = ratios.around(at)
    error = float(centred.errors(np.ones((1, ratios.below.shape[1])), np.zeros_like(at), weighing)[0])
    if error < 1e-12:
        if share:
            alike = wilson(round(estimate * int(effective)), int(effective), level)
            return replace(alike, estimate=estimate, effective=effective)
        return Interval(estimate, estimate, estimate, effective)
    beyond, errors = _drawn(centred, weighing, counts)
    known = errors > 1e-9 * error
    studentized = beyond[known] / errors[known]
    tail, jackknife = (1 - level) / 2, ratios.jackknife(weighing)
    upper, lower = _quantiles(studentized, tail)
    low, high = _percentiles(estimate + beyond, units, level)
    hull = min(low, estimate - lower * jackknife), max(high, estimate - upper * jackknife)
    ends = _widened(estimate, hull, units, effective, level)
    if share:
        ends = max(ends[0], 0.0), min(ends[1], 1.0)
    return Interval(estimate, *ends, effective)


def _drawn(centred: Ratios, weights: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """A weighted sum of ratios and its error in the draws in which all ratios are defined.

    An error is a sum of squares. Of few ratios it is multiplied out: no draw changes the products of units' parts.
    """
    parts = np.concatenate([centred.above, centred.below])
    if len(weights) > _FEW:
        counts = counts[centred.defined(counts)]
        values = centred.values(counts)
        return values @ weights, centred.errors(counts, values, weights)
    products = (parts[:, None] * parts).reshape(-1, parts.shape[1])
    sums = np.concatenate([parts, products]) @ counts.T
    if not (defined := sums[len(weights) : len(parts)].all(0)).all():
        counts, sums = counts[defined], sums[:, defined]
    above, below = sums[: len(parts)].reshape(2, len(weights), -1)
    values, shares = above / below, weights[:, None] / below
    factors = np.concatenate([shares, -shares * values])
    products = sums[len(parts) :].reshape(len(parts), len(parts), -1)
    squares = np.einsum("id,ijd,jd->d", factors, products, factors)
    errors = np.sqrt(np.maximum(squares, 0.0) * centred.units / (centred.units - 1))
    lost = squares < _LOST * np.einsum("id,ijd,jd->d", *map(np.abs, (factors, products, factors)))
    if lost.any():
        errors[lost] = centred.errors(counts[lost], values.T[lost], weights)
    return weights @ values, errors


def percentiles(estimate: float, drawn: Numbers, ratios: Ratios, level: float = LEVEL) -> Interval:
    """The percentile interval of a number made of ratios, from its values in the draws, further out for few units.

    None as in `bootstrap`.
    """
    units, effective = ratios.units, ratios.effective
    if ratios.few:
        return Interval(estimate, effective=effective)
    low, high = _percentiles(drawn, units, level)
    return Interval(
        estimate, *_widened(estimate, (min(low, estimate), max(high, estimate)), units, effective, level), effective
    )


def _percentiles(drawn: Numbers, units: int, level: float) -> tuple[float, float]:
    """The ends of the percentile interval, taken further out for few units (Hesterberg 2015)."""
    tail = special.ndtr(-np.sqrt(units / (units - 1)) * _t(units, level))
    return _quantiles(drawn, tail)


def _quantiles(drawn: Numbers, tail: float) -> tuple[float, float]:
    """The quantiles at `tail` and 1 - `tail`: those of numpy.quantile, with less overhead."""
    ordered = np.sort(drawn)
    last = len(ordered) - 1
    low, high = np.interp([tail * last, (1 - tail) * last], np.arange(len(ordered)), ordered)
    return float(low), float(high)


def largest_step(ratios: Ratios, counts: Numbers, level: float = LEVEL) -> tuple[int | None, Interval]:
    """The largest of the steps from 0 over K ratios to 1, and the index of the ratio it leads to (K: to the 1).

    The largest of several estimates is biased upwards. The lower end allows for that bias among the steps that may be
    the largest (Chernozhukov, Lee and Rosen 2013); the upper end is the largest upper end of any step. No interval as
    in `bootstrap`; no estimate if a ratio is not defined.
    """
    if ratios.undefined:
        return None, Interval(None)
    [steps] = _steps(ratios.values())
    estimate, effective = float(steps.max()), ratios.effective
    if ratios.few:
        return int(steps.argmax()), Interval(estimate, effective=effective)
    some = counts[ratios.defined(counts)]
    values = ratios.values(some)
    # The steps as weights of the ratios, [K + 1, K]; the last one lacks its 1.
    weights = np.diff(np.pad(np.eye(len(ratios.above)), ((1, 1), (0, 0))), axis=0)
    drawn, errors = _steps(values), np.stack([ratios.errors(some, values, of_step) for of_step in weights], axis=1)
    error = np.array([ratios.jackknife(of_step) for of_step in weights])
    if error.max() < 1e-12:
        return int(steps.argmax()), Interval(estimate, estimate, estimate, effective)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentized = np.where(errors > 1e-9 * error.max(), (drawn - steps) / errors, 0.0)
    # By the jackknife's error alone: widened for unequal prompts, as ratios are, the interval would be too wide.
    tail = (1 - level) / 2
    lower, upper = np.quantile(studentized, [1 - tail, tail], axis=0)
    lows, highs = steps - lower * error, steps - upper * error
    may_be_largest = highs >= lows.max()
    # If several steps may be the largest, not all of their upper ends miss, so the lower end may miss twice as often.
    missing = tail * min(2, int(may_be_largest.sum()))
    beyond = float(np.quantile(studentized[:, may_be_largest].max(1), 1 - missing))
    low = float((steps - beyond * error)[may_be_largest].max())
    return int(steps.argmax()), Interval(estimate, min(low, estimate), max(float(highs.max()), estimate), effective)


def _steps(values: Numbers) -> Numbers:
    """The steps from 0 over the values of each row to 1."""
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
    Student's t. Prompts that no two seeds share add nothing. None for fewer than 5 seeds, 8 prompts
    or 5 effective prompts.
    """
    if ratios.undefined:
        return Interval(None)
    weighing = np.array(weights)
    estimate = float(ratios.values()[0] @ weighing)
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
    # The interaction of seed and prompt is in both sums.
    of_prompts = max(between_prompts - float((parts**2).sum()) * pairs / (pairs - 1), 0.0)
    reach = np.sqrt(_t(n_seeds, level) ** 2 * between_seeds + _t(n_prompts, level) ** 2 * of_prompts)
    return Interval(estimate, float(estimate - reach), float(estimate + reach), effective)


def _between(parts: Numbers, sizes: Numbers, clusters: NDArray[np.int64]) -> tuple[int, float]:
    """The number of clusters with a nonzero part, and the variance between clusters of the sum of all parts."""
    of_cluster = np.bincount(clusters, parts)
    count = int((np.bincount(clusters, sizes) != 0).sum())
    return count, float((of_cluster**2).sum() * count / max(count - 1, 1))


def _widened(
    estimate: float, ends: tuple[float, float], units: int, effective: float, level: float
) -> tuple[float, float]:
    """Widen an interval that was made for `units` prompts to the effective number of them."""
    wider = widening(units, effective, level)
    return estimate + wider * (float(ends[0]) - estimate), estimate + wider * (float(ends[1]) - estimate)


def widening(units: int, effective: float, level: float = LEVEL) -> float:
    """The width of Student's interval with `effective` prompts over its width with `units` prompts."""
    few, many = (_t(n, level) * np.sqrt(n / (n - 1)) for n in (effective, float(units)))
    return max(1.0, float(few / many))


def _t(units: float, level: float) -> float:
    """The quantile of Student's t with one degree of freedom less than units."""
    return float(special.stdtrit(max(units - 1, 1), (1 + level) / 2))


def chosen(
    above: Numbers, below: Numbers, rank: int = 0, allowed: NDArray[np.bool_] | None = None
) -> tuple[int, int] | None:
    """The candidate of this rank, 0 is the best, in each half of the prompts: cross-fitting.

    The best of many candidates looks better on the prompts that chose it than it is. So each half of the prompts
    chooses, and its choice is measured on the other half. With more folds the prompts that choose are nearly the same
    in each, and intervals come out too narrow: up to 11 % of equal candidates were found different with 5 folds and up
    to 18 % with 12, but about 5 % with halves.

    `above` has the sums of K candidates after N prompts, [K, N], and `below` what all are divided by, [N]. `allowed`
    are the candidates that each half may choose, [2, K]; None: all. None where a half has nothing to choose by, or no
    candidate of that rank.
    """
    found = []
    for half in (0, 1):
        some = in_half(len(below), half)
        may = np.ones(len(above), bool) if allowed is None else allowed[half]
        total = below[some].sum()
        if not total or may.sum() <= rank:
            return None
        shares = np.where(may, above[:, some].sum(1) / total, -np.inf)
        found.append(int(np.argsort(-shares, kind="stable")[rank]))
    return found[0], found[1]


def held_out(above: Numbers, choices: tuple[int, int]) -> Numbers:
    """The sums of each half's choice after the prompts of the other half: [N]."""
    return np.where(in_half(above.shape[1], 1), above[choices[0]], above[choices[1]])
