"""Cross-fitting: what is chosen by some prompts is measured on others, so the best of nothing is nothing."""

from __future__ import annotations

import numpy as np

from crosspatch.patching.measures import in_half
from crosspatch.statistics.bootstrap import Ratios, bootstrap, resamples
from crosspatch.statistics.cross_fit import chosen, held_out


def test_each_half_is_held_to_what_the_other_one_chooses():
    rng = np.random.default_rng(0)
    above, below = rng.normal(size=(4, 13)), rng.random(13) + 0.5
    halves = np.arange(13) % 2 == 0, np.arange(13) % 2 == 1
    for rank in (0, 1, 3):
        found = held_out(above, chosen(above, below, rank))
        for own, other in (halves, halves[::-1]):
            assert (own == in_half(13, int(own[1]))).all()
            best = np.argsort(-above[:, other].sum(1) / below[other].sum())[rank]
            assert (found[own] == above[best, own]).all()


def test_what_is_always_the_best_is_held_out_as_it_is():
    above = np.stack([np.full(10, 0.2), np.full(10, 0.9), np.full(10, 0.5)])
    assert held_out(above, chosen(above, np.ones(10))).tolist() == [0.9] * 10
    assert held_out(above, chosen(above, np.ones(10), rank=1)).tolist() == [0.5] * 10
    # One half may not choose the best.
    allowed = np.array([[True, True, True], [True, False, True]])
    assert chosen(above, np.ones(10), allowed=allowed) == (1, 2)
    assert held_out(above, (1, 2)).tolist() == [0.5, 0.9] * 5


def test_without_another_half_or_a_candidate_there_is_nothing():
    above = np.ones((2, 4))
    assert chosen(above[:, :1], np.ones(1)) is None
    assert chosen(above, np.ones(4), rank=2) is None
    assert chosen(above, np.array([1.0, 0.0, 1.0, 0.0])) is None
    assert chosen(above, np.ones(4), rank=1, allowed=np.array([[True, True], [True, False]])) is None


def test_the_best_of_many_that_carry_nothing_is_not_better_than_nothing():
    rng = np.random.default_rng(0)
    held, same = [], []
    for _ in range(200):
        above = rng.normal(size=(30, 12))
        held.append(held_out(above, chosen(above, np.ones(12))).mean())
        # The control: measured on the prompts that chose it, it looks as if it carried much.
        same.append(above.sum(1).max() / 12)
    assert abs(np.mean(held)) < 4 * np.std(held) / np.sqrt(200)
    assert np.mean(same) > 0.4


def test_of_equal_candidates_few_are_told_apart():
    rng, apart, worlds = np.random.default_rng(1), 0, 300
    for _ in range(worlds):
        above, below = rng.lognormal(0, 1, (4, 12)), np.ones(12)
        ahead = held_out(above, chosen(above, below)) - held_out(above, chosen(above, below, rank=1))
        found = bootstrap(Ratios(ahead[None], below[None]), resamples(12, rng, 300))
        apart += found.low > 0
    assert apart / worlds <= 0.08
