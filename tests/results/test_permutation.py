"""Labels dealt anew: each deal as likely as any other, and a p-value that is the share of deals."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from crosspatch.results.permutation import Labelled, _dealt, chance_of_excess


@pytest.mark.parametrize("some", [1, 2, 4])
def test_every_deal_is_as_likely_as_any_other(some):
    labels, draws = np.array([0, 0, 1, 2, 2]), 60_000
    found = Counter(map(tuple, _dealt(labels, some, draws, np.random.default_rng(0)).tolist()))
    expected = Counter(deal[:some] for deal in permutations(labels.tolist()))
    total = sum(expected.values())
    assert found.keys() == expected.keys()
    for deal, count in expected.items():
        share = count / total
        # Five standard errors of a share.
        assert abs(found[deal] / draws - share) < 5 * np.sqrt(share * (1 - share) / draws)


@pytest.mark.parametrize("apart", [2, 5])
def test_the_p_value_is_the_share_of_deals_that_say_as_much(apart):
    """Two of six cells are labelled; `apart` cells have something above the line."""
    labels, above = np.array([1, 1, 0, 0, 0, 0]), np.array([1.0, 0.5, 0.25, 0.2, 0.1, 0.0])
    above[apart:] = 0
    prompt = Labelled(above, np.ones(6), labels)

    def excess(dealt) -> float:
        of = np.array(dealt) == 1
        return above[of].mean() - above[~of].mean()

    deals = set(permutations(labels.tolist()))
    exact = np.mean([excess(deal) >= excess(labels) - 1e-12 for deal in deals])
    found = chance_of_excess([prompt], 2, np.random.default_rng(1), 20_000)[1]
    assert found == pytest.approx(exact, abs=0.015)
    # The control: where the labelled cells have nothing, it is no excess.
    nothing = Labelled(above[::-1].copy(), np.ones(6), labels)
    assert chance_of_excess([nothing], 2, np.random.default_rng(1), 2000)[1] > 0.5
