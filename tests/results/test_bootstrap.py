"""Bootstrap intervals: by hand where that can be done, against their definition, and where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crosspatch.results.bootstrap import (
    Contrast,
    Ratios,
    bootstrap,
    bootstraps,
    drawn_together,
    over_seeds,
    resamples,
    seeded_resamples,
)
from crosspatch.results.interval import Interval, wilson


def ratios(above, below) -> Ratios:
    return Ratios(np.atleast_2d(np.array(above, float)), np.atleast_2d(np.array(below, float)))


def test_a_ratio_is_that_of_the_sums_not_the_mean_of_ratios() -> None:
    found = bootstrap(ratios([1, 0, 0], [1, 1, 8]), resamples(3, np.random.default_rng(0)))
    assert found == Interval(0.1)


def test_resamples_draw_as_many_units_as_there_are() -> None:
    counts = resamples(9, np.random.default_rng(0), 50)
    assert counts.shape == (50, 9)
    assert (counts.sum(1) == 9).all()
    assert (counts != 1).any()


def test_alike_units_leave_no_doubt_but_a_share_keeps_some() -> None:
    counts = resamples(12, np.random.default_rng(0))
    assert bootstrap(ratios([2] * 12, [4] * 12), counts) == Interval(0.5, 0.5, 0.5)
    assert bootstrap(ratios([0] * 12, [40] * 12), counts, share=True) == wilson(0, 12)


def test_few_units_or_nothing_below_the_line_give_no_interval() -> None:
    rng = np.random.default_rng(0)
    seven = rng.random(12) + 0.5
    seven[7:] = 0
    assert not bootstrap(ratios(seven * rng.random(12), seven), resamples(12, rng)).known
    assert bootstrap(ratios(np.zeros(12), np.zeros(12)), resamples(12, rng)) == Interval(None)


def test_a_difference_of_a_ratio_with_itself_is_nothing() -> None:
    rng = np.random.default_rng(0)
    above, below = rng.random(12), rng.random(12) + 0.5
    same = bootstrap(ratios([above, above], [below, below]), resamples(12, rng), (1, -1))
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    # Measured on the same units, a difference is surer than its parts.
    shifted = bootstrap(ratios([above, above - 0.3 * below], [below, below]), resamples(12, rng), (1, -1))
    alone = bootstrap(ratios(above, below), resamples(12, rng))
    assert shifted.estimate == pytest.approx(0.3)
    assert shifted.high - shifted.low < 0.1 * (alone.high - alone.low)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(-3, 3))
def test_an_interval_moves_and_scales_with_what_it_is_of(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    above, below = rng.normal(size=10), rng.random(10) + 0.5
    counts = resamples(10, rng, 300)
    first = bootstrap(ratios(above, below), counts)
    second = bootstrap(ratios(scale * above + shift * below, below), counts)
    assert first.low <= first.estimate <= first.high
    for end in ("low", "estimate", "high"):
        assert getattr(second, end) == pytest.approx(scale * getattr(first, end) + shift, abs=1e-6)


def literal(contrast: Contrast, counts: np.ndarray) -> Interval:
    """The interval as it is defined, one contrast and one draw after the other."""
    above, below, weights = contrast.ratios.above, contrast.ratios.below, np.array(contrast.weights)
    units = min(int(((a != 0) | (b != 0)).sum()) for a, b in zip(above, below, strict=True))

    def value(count: np.ndarray) -> float:
        return float(sum(w * (count @ a) / (count @ b) for w, a, b in zip(weights, above, below, strict=True)))

    def error(count: np.ndarray) -> float:
        parts = sum(
            w * (a - (count @ a) / (count @ b) * b) / (count @ b) for w, a, b in zip(weights, above, below, strict=True)
        )
        return float(np.sqrt((count * parts**2).sum() * units / (units - 1)))

    once = np.ones(below.shape[1])
    estimate, spread = value(once), error(once)
    some = [count for count in counts if all(count @ b != 0 for b in below)]
    values, errors = np.array([value(count) for count in some]), np.array([error(count) for count in some])
    further = stats.norm.cdf(np.sqrt(units / (units - 1)) * stats.t.ppf(0.025, units - 1))
    low, high = np.quantile(values, [further, 1 - further])
    told = errors > 1e-9 * spread
    upper, lower = np.quantile((values - estimate)[told] / errors[told], [0.025, 0.975])
    ends = min(low, estimate - lower * spread), max(high, estimate - upper * spread)
    return Interval(estimate, *(float(np.clip(end, 0, 1) if contrast.share else end) for end in ends))


def contrasts(rng: np.random.Generator, units: int) -> list[Contrast]:
    """One ratio, differences and a mean of several; sums of cells, and shares of which most units are alike."""
    found = []
    for weights in ((1.0,), (1.0, -1.0), (0.2,) * 5, (1 / 3, 1 / 3, 1 / 3, -1.0)):
        below = rng.lognormal(1, 0.7, (len(weights), units)) * (rng.random((len(weights), units)) < 0.8)
        found.append(Contrast(Ratios(below * rng.normal(0.4, 0.3, below.shape), below), weights))
        cells = rng.integers(0, 6, below.shape).astype(float)
        alike = np.where(np.arange(units) < 2, np.minimum(cells, 1), 0.0)
        found.append(Contrast(Ratios(alike, cells), weights, share=min(weights) > 0))
    return found


@pytest.mark.parametrize("units", [20, 50])
def test_what_is_drawn_together_is_what_the_definition_gives_one_by_one(units) -> None:
    rng = np.random.default_rng(units)
    some, counts = contrasts(rng, units), resamples(units, rng, 300)
    for contrast, found in zip(some, bootstraps(some, counts), strict=True):
        defined = literal(contrast, counts)
        assert found.known
        for end in ("estimate", "low", "high"):
            assert getattr(found, end) == pytest.approx(getattr(defined, end), rel=1e-10, abs=1e-12)
        # A draw less gives another interval: the comparison can fail.
        assert literal(contrast, counts[1:]) != defined


def test_more_contrasts_than_are_drawn_at_once_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    counts = resamples(12, rng, 50)
    below = rng.random(12) + 0.5
    some = [Contrast(Ratios((i * below)[None], below[None])) for i in range(3)]
    some += [Contrast(ratios(rng.random((k, 12)), rng.random((k, 12)) + 0.5), (1.0,) * k) for k in (1, 2, 3) * 100]
    together = bootstraps(some, counts)
    assert together[:3] == [Interval(i, i, i) for i in range(3)]
    for contrast, found in zip(some[3:], together[3:], strict=True):
        alone = bootstrap(contrast.ratios, counts, contrast.weights)
        assert (found.low, found.high) == (pytest.approx(alone.low), pytest.approx(alone.high))
        assert found.estimate == alone.estimate


def test_a_draw_in_which_all_units_are_alike_has_no_error_to_divide_by() -> None:
    # But for one unit all are alike, so draws without it have an error of 0 but for the last digits.
    above, below = np.full(10, 1 / 3), np.full(10, 0.7)
    above[0] = 5.0
    contrast = Contrast(ratios(above, below))
    counts = resamples(10, np.random.default_rng(1), 400)
    assert (counts[:, 0] == 0).any()
    [found] = bootstraps([contrast], counts)
    defined = literal(contrast, counts)
    assert (found.low, found.high) == (pytest.approx(defined.low), pytest.approx(defined.high))
    assert found.high < 5


def test_what_is_told_keeps_its_interval() -> None:
    counts = resamples(12, np.random.default_rng(0), 50)
    known = Interval(0.5, 0.4, 0.6)
    drawn = Contrast(ratios(np.arange(12), np.ones(12)))
    told = dict(drawn_together([("first", known), ("second", drawn), ("third", known)], counts))
    assert list(told) == ["first", "second", "third"]
    assert told["first"] is told["third"] is known
    assert told["second"] == bootstrap(drawn.ratios, counts)


def test_a_seed_gives_the_same_draws_each_time() -> None:
    (first, one), (second, other) = seeded_resamples(9, 3), seeded_resamples(9, 3)
    assert (first == second).all()
    # Whoever goes on drawing does not go on for others.
    assert one.random() == other.random()
    assert one.random() == seeded_resamples(9, 3)[1].random(2)[1]
    assert (first != seeded_resamples(9, 4)[0]).any()
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


# The truth is known here: prompts with as many disagreements as they happen to have, and an effect of their own.
def _transfers(prompts: int, rng: np.random.Generator) -> Ratios:
    below, effect = np.empty(prompts), rng.beta(2, 3, prompts)
    above = np.empty(prompts)
    for i, cells in enumerate(1 + rng.poisson(rng.gamma(2, 4, prompts))):
        gaps = rng.lognormal(1, 0.7, cells)
        above[i], below[i] = (gaps * (effect[i] + rng.normal(0, 0.4, cells))).sum(), gaps.sum()
    return ratios(above, below)


def _steps(prompts: int, rng: np.random.Generator) -> Ratios:
    first = _transfers(prompts, rng)
    lower = 0.5 * first.above[0] + first.below[0] * rng.normal(0.1, 0.1, prompts)
    return ratios([first.above[0], lower], [first.below[0], first.below[0]])


def _layers(prompts: int, rng: np.random.Generator) -> Ratios:
    first = _transfers(prompts, rng)
    at = [share * first.above[0] + first.below[0] * rng.normal(0, 0.05, prompts) for share in (0.1, 0.5, 0.9)]
    return ratios(at, [first.below[0]] * 3)


def _rates(prompts: int, rng: np.random.Generator) -> Ratios:
    steps = rng.integers(30, 96, prompts)
    return ratios(rng.binomial(steps, rng.beta(0.6, 8, prompts)), steps)


def _flips(prompts: int, rng: np.random.Generator) -> Ratios:
    cells = 1 + rng.poisson(8, prompts)
    return ratios(rng.binomial(cells, rng.beta(5, 0.6, prompts)), cells)


@pytest.mark.parametrize(
    ("draw", "weights", "share"),
    [
        (_transfers, (1.0,), False),
        (_steps, (1.0, -1.0), False),
        (_layers, (1 / 3,) * 3, False),
        (_rates, (1.0,), True),
        (_flips, (1.0,), True),
    ],
)
@pytest.mark.parametrize("prompts", [12, 24])
def test_intervals_have_their_coverage(draw, weights, share, prompts) -> None:
    weighing = np.array(weights)
    truth = float(draw(200_000, np.random.default_rng(1)).values(np.ones((1, 200_000)))[0] @ weighing)
    rng, worlds, inside, percentiles = np.random.default_rng(2), 400, 0, 0
    for _ in range(worlds):
        data, counts = draw(prompts, rng), resamples(prompts, rng, 600)
        found = bootstrap(data, counts, weights, share=share)
        inside += found.low <= truth <= found.high
        low, high = np.quantile(data.values(counts) @ weighing, [0.025, 0.975])
        percentiles += low <= truth <= high
    assert 0.90 <= inside / worlds <= 0.98
    # Plain percentiles have less: what is done beside them is needed.
    assert percentiles < inside


@pytest.mark.parametrize("seeds", [2, 4])
def test_intervals_over_seeds_have_their_coverage_and_over_prompts_alone_would_not(seeds) -> None:
    truth = float(_transfers(200_000, np.random.default_rng(1)).values(np.ones((1, 200_000)))[0, 0])
    rng, worlds, inside, ignored = np.random.default_rng(3), 400, 0, 0
    for _ in range(worlds):
        above, below, all_above, all_below = [], [], [], []
        for child in rng.normal(0, 0.15, seeds):
            drawn = _transfers(12, rng)
            moved = drawn.above[0] + child * drawn.below[0]
            above.append(moved.sum())
            below.append(drawn.below.sum())
            all_above.extend(moved)
            all_below.extend(drawn.below[0])
        found = over_seeds(ratios(above, below))
        inside += found.low <= truth <= found.high
        pooled = bootstrap(ratios(all_above, all_below), resamples(12 * seeds, rng, 300))
        ignored += pooled.low <= truth <= pooled.high
    assert 0.90 <= inside / worlds <= 0.98
    assert ignored / worlds < 0.85
