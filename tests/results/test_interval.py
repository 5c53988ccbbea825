"""Intervals of shares and their comparison, worked by hand."""

from __future__ import annotations

import math

import pytest

from crosspatch.results.interval import Interval, sign_test, wilson


def test_wilsons_interval_by_hand() -> None:
    # z = 1.96; centre (p + z²/2n) / (1 + z²/n), half width z √(p(1-p)/n + z²/4n²) / (1 + z²/n).
    n, p, z = 10, 0.8, 1.959964
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = wilson(8, 10)
    assert found.estimate == 0.8
    assert (found.low, found.high) == pytest.approx(
        ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
    )
    nothing = wilson(0, 12)
    assert (nothing.estimate, nothing.low) == (0, 0)
    assert nothing.high == pytest.approx(z**2 / (12 + z**2), rel=1e-4)
    assert wilson(0, 0) == Interval(None)


def test_the_sign_test_by_hand() -> None:
    # 5 lost, 1 gained: 2 · (C(6,0) + C(6,1)) / 2⁶.
    assert sign_test(5, 1) == pytest.approx(2 * 7 / 64)
    assert sign_test(1, 5) == sign_test(5, 1)
    assert sign_test(0, 0) == 1.0


def test_intervals_that_overlap_tell_nothing_apart() -> None:
    low, high = Interval(0.2, 0.1, 0.3), Interval(0.5, 0.31, 0.7)
    assert high.above(low)
    assert not low.above(high)
    assert not high.above(Interval(0.4, 0.3, 0.5))
    assert not high.above(Interval(0.2))
