"""Intervals of shares and their comparison, worked by hand."""

import math

import pytest

from crosspatch.statistics.interval import Interval, paired_difference, sign_test, wilson


def test_counted_answers_by_hand() -> None:
    # z = 1.96; centre (p + z²/2n) / (1 + z²/n), half width z √(p(1-p)/n + z²/4n²) / (1 + z²/n).
    n, p, z = 10, 0.8, 1.959964
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = wilson(8, 10)
    assert (found.estimate, found.effective) == (0.8, 10)
    ends = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    assert (found.low, found.high) == pytest.approx(ends)
    assert wilson(0, 0) == Interval(None)
    nothing = wilson(0, 12)
    assert (nothing.estimate, nothing.low, nothing.high) == (0, 0, pytest.approx(z**2 / (12 + z**2), rel=1e-4))
    # 5 lost, 1 gained: 2 · (C(6,0) + C(6,1)) / 2⁶.
    assert sign_test(5, 1) == sign_test(1, 5) == pytest.approx(2 * 7 / 64)
    assert sign_test(5, 1, "greater") == pytest.approx(7 / 64)
    assert (sign_test(1, 5, "greater"), sign_test(0, 3, "greater")) == (pytest.approx(63 / 64), 1)
    assert sign_test(0, 0) == sign_test(0, 0, "greater") == 1.0


def test_a_paired_difference_by_hand() -> None:
    # Bonett and Price: one more question lost and one gained, of two more.
    n, lost, gained, z = 30, 9, 2, 1.959964
    less, more = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    reach = z * math.sqrt((less + more - (more - less) ** 2) / (n + 2))
    found = paired_difference(lost, gained, n)
    assert found.estimate == pytest.approx(-7 / 30)
    assert (found.low, found.high) == pytest.approx((more - less - reach, more - less + reach))
    assert paired_difference(gained, lost, n) == found.negated
    # Nothing lost of few questions is no certainty, and nothing asked is nothing known.
    assert paired_difference(0, 0, 8).high == pytest.approx(1.96 * math.sqrt(2 / 10 / 10), abs=1e-3)
    assert paired_difference(0, 0, 0) == Interval(None)


def test_a_difference_of_independent_estimates_by_hand() -> None:
    # MOVER: √(0.1² + 0.3²) below, √(0.2² + 0.05²) above.
    found = Interval(0.5, 0.4, 0.7, 20.0).minus(Interval(0.2, 0.15, 0.5, 9.0))
    assert found.estimate == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3 - math.sqrt(0.1), 0.3 + math.sqrt(0.0425)))
    assert found.effective == 9
    # Nearer than either interval alone would have it.
    assert found.low > 0.4 - 0.5
    assert Interval(0.5).minus(Interval(0.2, 0.1, 0.3)) == Interval(0.3)
    assert Interval(None).minus(found) == Interval(None)
    # The other sign, and the rest, turn the ends.
    found = Interval(0.25, 0.125, 0.5, 9.0)
    assert found.negated == Interval(-0.25, -0.5, -0.125, 9.0)
    assert Interval(0.25).rest == Interval(0.75)
    assert found.rest == Interval(0.75, 0.5, 0.875, 9.0)
