"""The bootstrap of ratios of sums, in which prompts are resampled, and cross-fitting, in which they are halved.

All ratios of a domain use the same resamples, and are computed from sums over prompts by matrix products.
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
# Up to this many ratios, errors are computed from the products of the units' parts (see `_drawn`).
_FEW = 2
# A sum of squares this small relative to its terms has lost its digits, and is computed again from the parts.
_LOST = 1e-8
# With fewer seeds there is no interval over seeds.
FEWEST_SEEDS = 5


@dataclass(frozen=True)
class Ratios:
    """K ratios of sums over N units (prompts); `above` and `below` are the numerators' and denominators' terms, [K, N].

    A single ratio may be given as [N].
    """

    above: Numbers
    below: Numbers

    def __post_init__(self) -> None:
        for name in ("above", "below"):
            object.__setattr__(self, name, np.atleast_2d(getattr(self, name)))

    def values(self, counts: Numbers | None = None) -> Numbers:
        """Compute the ratios [draws, K] from how often each unit is drawn, [draws, N]; None: every unit once."""
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
        """Compute linearized standard errors [draws] of the weighted sum of the ratios."""
        shares = weights / (counts @ self.below.T)
        # The contribution of each unit to the error, [draws, N].
        parts = shares @ self.above - (shares * values) @ self.below
        return np.sqrt(np.einsum("dn,dn,dn->d", counts, parts, parts) * self.units / (self.units - 1))

    def jackknife(self, weights: Numbers) -> float:
        """Compute the jackknife standard error of the weighted sum, by leaving out one unit at a time.

        If one unit has most of a denominator, this error is larger than the linearized error.
        """
        leverage = np.minimum(np.abs(self.below / self.below.sum(1)[:, None]), 1 - 1e-6)
        moved = weights @ (self.residuals / (1 - leverage))
        return float(np.sqrt((moved**2).sum() * (self.units - 1) / self.units))

    @property
    def residuals(self) -> Numbers:
        """Each unit's contribution to the linearized error of each ratio, [K, N]."""
        totals = self.below.sum(1)[:, None]
        return self.around(self.above.sum(1) / totals[:, 0]).above / totals

    @cached_property
    def effective(self) -> float:
        """Kish's effective number of prompts, (Σw)² / Σw² with w a denominator's terms; the minimum over the ratios."""
        sizes = np.abs(self.below)
        squares = (sizes**2).sum(1)
        return float(np.divide(sizes.sum(1) ** 2, squares, out=np.zeros(len(sizes)), where=squares > 0).min())

    @property
    def few(self) -> bool:
        """Whether there are too few units for an interval."""
        return too_few(self.units, self.effective)

    @property
    def rest(self) -> Ratios:
        """The ratios 1 − r for each ratio r."""
        return Ratios(self.below - self.above, self.below)

    @cached_property
    def units(self) -> int:
        """The number of units with a nonzero term; the minimum over the ratios."""
        return int(((self.above != 0) | (self.below != 0)).sum(1).min())

    def around(self, values: Numbers) -> Ratios:
        """Subtract `values` [K] from the ratios."""
        return Ratios(self.above - values[:, None] * self.below, self.below)


def resamples(units: int, rng: np.random.Generator, draws: int | None = None) -> Numbers:
    """Draw bootstrap samples; return how often each sample contains each unit, [draws, units]."""
    return rng.multinomial(units, np.full(units, 1 / units), size=draws or DRAWS).astype(np.float64)


def seeded_resamples(units: int, seed: int) -> tuple[Numbers, np.random.Generator]:
    """Draw resamples of `units` units with the experiment's seed; also return the generator for further draws."""
    counts, after = _seeded(units, seed, DRAWS)
    return counts, deepcopy(after)


@lru_cache(4)
def _seeded(units: int, seed: int, draws: int) -> tuple[Numbers, np.random.Generator]:
    # Cached, since all layers and tables use the same resamples, and drawing them takes as long as using them.
    rng = np.random.default_rng([seed, units])
    counts = resamples(units, rng, draws)
    counts.flags.writeable = False
    return counts, rng


def sums_by(
    rows: pl.DataFrame, units: pl.DataFrame, by: Sequence[str], sums: Mapping[str, pl.Expr]
) -> dict[tuple[Any, ...], dict[str, Numbers]]:
    """Sum the rows of each unit for each value of `by`; the arrays [N] have 0 for a unit without rows.

    `units` has one row per unit, in the order of the arrays, with its prompt_id, or its seed and prompt_id.
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
    """Yield a row with interval and n_prompts for each domain, value of `by`, and measure (a ratio of two sums).

    All intervals of a domain use the same resamples of its prompts. `shares` are the measures that are always between
    0 and 1. Raises ValueError for a prompt that is not in `domains`.
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
    """Compute the interval of a weighted sum of ratios (weights 1 and -1: a difference) from resamples [draws, N].

    The interval is the hull of two intervals, since each alone covers too rarely with a dozen units: the expanded
    percentile interval (Hesterberg 2015) and the studentized bootstrap (Efron and Tibshirani 1993, chapter 12) with
    jackknife errors. If units differ in weight, the interval is widened by Student's t for the effective number of
    units (Kish). There is no interval for fewer than 8 units or 5 effective units. If all units are equal, the interval
    has width 0; for a `share`, which is between 0 and 1, it is Wilson's interval for as many independent trials, so
    that 0 of 12 prompts is not certainty.
    """
    if ratios.undefined:
        return Interval(None)
    [at], weighing = ratios.values(), np.array(weights)
    estimate, units, effective = float(at @ weighing), ratios.units, ratios.effective
    if ratios.few:
        return Interval(estimate, effective=effective)
    error = float(np.sqrt(((weighing @ ratios.residuals) ** 2).sum() * units / (units - 1)))
    if error < 1e-12:
        if share:
            alike = wilson(round(estimate * int(effective)), int(effective), level)
            return replace(alike, estimate=estimate, effective=effective)
        return Interval(estimate, estimate, estimate, effective)
    # Subtract the estimates first: the differences are small, so their squares keep their digits.
    beyond, errors = _drawn(ratios.around(at), weighing, counts)
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
    """Compute a weighted sum of ratios and its error for each draw in which all ratios are defined.

    A squared error is a sum of squares over units. For few ratios these are expanded, since the products of the units'
    parts are the same in all draws.
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
    """Compute the expanded percentile interval of a statistic of `ratios` from its values `drawn` in the resamples.

    There is no interval if `bootstrap` would have none.
    """
    units, effective = ratios.units, ratios.effective
    if ratios.few:
        return Interval(estimate, effective=effective)
    low, high = _percentiles(drawn, units, level)
    ends = min(low, estimate), max(high, estimate)
    return Interval(estimate, *_widened(estimate, ends, units, effective, level), effective)


def _percentiles(drawn: Numbers, units: int, level: float) -> tuple[float, float]:
    """Compute the ends of the percentile interval, expanded for few units (Hesterberg 2015)."""
    tail = special.ndtr(-np.sqrt(units / (units - 1)) * _t(units, level))
    return _quantiles(drawn, tail)


def _quantiles(drawn: Numbers, tail: float) -> tuple[float, float]:
    """Compute the quantiles at `tail` and 1 - `tail`, like numpy.quantile with less overhead."""
    ordered = np.sort(drawn)
    last = len(ordered) - 1
    low, high = np.interp([tail * last, (1 - tail) * last], np.arange(len(ordered)), ordered)
    return float(low), float(high)


def largest_step(ratios: Ratios, counts: Numbers, level: float = LEVEL) -> tuple[int | None, Interval]:
    """Find the largest step in the sequence 0, K ratios, 1, and the index of the ratio at its end (K: the final 1).

    The largest of several estimates is biased upwards. The lower end corrects for this among the steps that may be the
    largest (Chernozhukov, Lee and Rosen 2013); the upper end is the largest upper end of any step. There is no interval
    if `bootstrap` would have none, and no estimate if a ratio is undefined.
    """
    if ratios.undefined:
        return None, Interval(None)
    [steps] = _steps(ratios.values())
    estimate, effective = float(steps.max()), ratios.effective
    if ratios.few:
        return int(steps.argmax()), Interval(estimate, effective=effective)
    some = counts[ratios.defined(counts)]
    values = ratios.values(some)
    # The steps as weights of the ratios, [K + 1, K]; the last step's constant 1 has no weight.
    weights = np.diff(np.pad(np.eye(len(ratios.above)), ((1, 1), (0, 0))), axis=0)
    drawn, errors = _steps(values), np.stack([ratios.errors(some, values, of_step) for of_step in weights], axis=1)
    error = np.array([ratios.jackknife(of_step) for of_step in weights])
    if error.max() < 1e-12:
        return int(steps.argmax()), Interval(estimate, estimate, estimate, effective)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentized = np.where(errors > 1e-9 * error.max(), (drawn - steps) / errors, 0.0)
    # Only the jackknife error is used: with the widening for unequal prompts the interval would be too wide.
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
    """Compute each row's differences between neighbours in the sequence 0, values, 1."""
    return np.diff(np.pad(values, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))), axis=1)


def over_seeds(
    ratios: Ratios,
    seeds: NDArray[np.int64],
    prompts: NDArray[np.int64],
    weights: Sequence[float] = (1.0,),
    level: float = LEVEL,
) -> Interval:
    """Compute the interval over seeds and prompts, which are crossed factors if all seeds have the same questions.

    The units are (seed, prompt) pairs, with the index of each pair's seed and prompt in `seeds` and `prompts`, [N]. The
    squared half-width is the variance between seeds plus the prompts' additional variance (Cameron, Gelbach and Miller
    2011), each times its squared quantile of Student's t. Prompts that only one seed has add nothing. There is no
    interval for fewer than 5 seeds, 8 prompts or 5 effective prompts.
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
    """Return the number of clusters with a nonzero size, and the variance of the sum of all parts between clusters."""
    of_cluster = np.bincount(clusters, parts)
    count = int((np.bincount(clusters, sizes) != 0).sum())
    return count, float((of_cluster**2).sum() * count / max(count - 1, 1))


def _widened(
    estimate: float, ends: tuple[float, float], units: int, effective: float, level: float
) -> tuple[float, float]:
    """Widen an interval that was computed for `units` prompts to match the effective number of prompts."""
    wider = widening(units, effective, level)
    return estimate + wider * (ends[0] - estimate), estimate + wider * (ends[1] - estimate)


def widening(units: int, effective: float, level: float = LEVEL) -> float:
    """Return the width of Student's interval for `effective` prompts divided by its width for `units` prompts."""
    few, many = (_t(n, level) * np.sqrt(n / (n - 1)) for n in (effective, float(units)))
    return max(1.0, float(few / many))


def _t(units: float, level: float) -> float:
    """Return the quantile of Student's t with `units` − 1 degrees of freedom."""
    return float(special.stdtrit(max(units - 1, 1), (1 + level) / 2))


def chosen(
    above: Numbers, below: Numbers, rank: int = 0, allowed: NDArray[np.bool_] | None = None
) -> tuple[int, int] | None:
    """Choose the candidate of this rank (0: the best) on each half of the prompts, for cross-fitting.

    The best of many candidates is overestimated on the prompts by which it was chosen. So a candidate is chosen on each
    half of the prompts and measured on the other half. With more folds the choosing prompts of the folds overlap, and
    intervals are too narrow: up to 11 % of equal candidates were found different with 5 folds and up to 18 % with 12,
    but about 5 % with halves.

    `above` has the numerators of K candidates by prompt, [K, N], and `below` their common denominators, [N]. `allowed`
    masks the candidates that each half may choose, [2, K]; None: all. Returns None if a half's denominator is 0 or it
    has no candidate of that rank.
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
    """Return each prompt's sum for the candidate that was chosen on the other half of the prompts, [N]."""
    return np.where(in_half(above.shape[1], 1), above[choices[0]], above[choices[1]])
