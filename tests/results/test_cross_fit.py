"""Cross-fitting: what is chosen by some prompts is measured on others, so the best of nothing is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from crosspatch.results.bootstrap import Ratios, bootstrap, resamples
from crosspatch.results.cross_fit import held_out, ranked_elsewhere


def test_each_prompt_is_in_one_half_and_has_no_part_in_its_choice():
    rng = np.random.default_rng(0)
    above, below = rng.normal(size=(4, 13)), rng.random(13) + 0.5
    seen = []
    for prompts, ranked in ranked_elsewhere(above, below, seed=1):
        seen += prompts.tolist()
        others = np.setdiff1d(np.arange(13), prompts)
        shares = above[:, others].sum(1) / below[others].sum()
        assert ranked.tolist() == np.argsort(-shares).tolist()
        # Whatever these prompts have, the others choose the same.
        changed = above.copy()
        changed[:, prompts] += rng.normal(size=(4, len(prompts)), scale=100)
        again = {tuple(p.tolist()): r.tolist() for p, r in ranked_elsewhere(changed, below, seed=1)}
        assert again[tuple(prompts.tolist())] == ranked.tolist()
    assert sorted(seen) == list(range(13))


def test_what_is_always_the_best_is_held_out_as_it_is():
    above = np.stack([np.full(10, 0.2), np.full(10, 0.9), np.full(10, 0.5)])
    assert held_out(above, np.ones(10), seed=0).tolist() == [0.9] * 10
    assert held_out(above, np.ones(10), seed=0, rank=1).tolist() == [0.5] * 10
    with pytest.raises(ValueError, match="got one prompt"):
        held_out(above[:, :1], np.ones(1), seed=0)


def test_the_best_of_many_that_carry_nothing_is_not_better_than_nothing():
    rng = np.random.default_rng(0)
    chosen, same = [], []
    for _ in range(200):
        above = rng.normal(size=(30, 12))
        chosen.append(held_out(above, np.ones(12), seed=0).mean())
        # The control: measured on the prompts that chose it, it looks as if it carried much.
        same.append(above.sum(1).max() / 12)
    assert abs(np.mean(chosen)) < 4 * np.std(chosen) / np.sqrt(200)
    assert np.mean(same) > 0.4


def test_of_equal_candidates_few_are_told_apart():
    rng, apart, worlds = np.random.default_rng(1), 0, 300
    for world in range(worlds):
        above, below = rng.lognormal(0, 1, (4, 12)), np.ones(12)
        ahead = held_out(above, below, world) - held_out(above, below, world, rank=1)
        found = bootstrap(Ratios(ahead[None], below[None]), resamples(12, rng, 300))
        apart += found.low > 0
    assert apart / worlds <= 0.08
