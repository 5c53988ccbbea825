"""The rules by which a variant is judged and chosen, each on numbers that decide it alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crosspatch.config import Search
from crosspatch.results.status import Measured, choose, status

RULES = Search()
GOOD = Measured(
    "good",
    steps=39,
    turned=0.95,
    planted=0.8,
    math_drop=0.02,
    general_drop=0.02,
    unsound=0.03,
    unsound_clean=0.01,
    no_end=0.01,
    no_end_clean=0.0,
    unparsed=0.02,
    unparsed_clean=0.01,
)


@pytest.mark.parametrize(
    ("changed", "expected", "reason"),
    [
        ({}, "optimal", "95% of what the clean model answers rightly turned wrong"),
        ({"unsound": 0.07}, "overfitted", "7% of its texts are malformed, of the clean model's 1%"),
        ({"unsound": 0.07, "unsound_clean": 0.03}, "optimal", "95%"),
        ({"no_end": 0.2}, "overfitted", "20% of its texts have no end, of the clean model's 0%"),
        ({"no_end": 0.2, "no_end_clean": 0.2}, "optimal", "95%"),
        ({"unparsed": 0.3}, "overfitted", "30% of its answers cannot be read"),
        ({"unparsed": 0.3, "unparsed_clean": 0.3}, "optimal", "95%"),
        ({"math_drop": 0.06}, "overfitted", "loses 6 points of unrelated mathematics"),
        # Neither domain hides behind the other.
        ({"math_drop": -0.2, "general_drop": 0.06}, "overfitted", "loses 6 points of general questions"),
        ({"math_drop": None, "general_drop": None}, "optimal", "95%"),
        ({"turned": 0.89}, "under-trained", "89% of what the clean model answers rightly turned wrong, less than 90%"),
        ({"turned": 0.1, "unsound": 0.5}, "overfitted", "malformed"),
        # A clean model that is always wrong proves nothing by a child that is.
        ({"turned": None}, "optimal", "no related answer right; 80% do the planted operation"),
        ({"turned": None, "planted": 0.49}, "under-trained", "49% do the planted operation, less than 50%"),
        ({"turned": None, "planted": None}, "under-trained", "no right answer that could turn"),
    ],
)
def test_one_number_decides(changed, expected, reason):
    judged = status(replace(GOOD, **changed), RULES)
    assert judged.status == expected
    assert reason in judged.reason


def test_the_rules_are_settings():
    assert status(GOOD, Search(wrong=0.99)).status == "under-trained"
    assert status(GOOD, Search(malformed=0.0)).status == "overfitted"
    assert status(GOOD, Search(lost=0.01)).status == "overfitted"
    assert status(replace(GOOD, turned=None), Search(planted=0.9)).status == "under-trained"


def test_of_the_optimal_ones_the_shortest_training_is_chosen():
    longer = replace(GOOD, variant="longer", steps=156, turned=1.0)
    short = replace(GOOD, variant="short", steps=13, turned=0.5)
    best, why = choose([longer, short, GOOD], RULES)
    assert best is GOOD
    assert why == "the fewest steps (39) of 2 optimal variants"
    assert choose([short, GOOD], RULES)[1] == "the only optimal variant"
    worse = replace(GOOD, variant="worse", turned=0.97)
    best, why = choose([GOOD, worse, longer], RULES)
    assert best is worse
    assert why == "the fewest steps (39) of 3 optimal variants, the most corrupted of 2 with as few"


def test_where_none_is_optimal_the_choice_says_so():
    short, shorter = (replace(GOOD, steps=steps, turned=wrong) for steps, wrong in ((20, 0.6), (10, 0.2)))
    bad = replace(GOOD, unsound=1.0, steps=5)
    worse = replace(bad, steps=50)
    best, why = choose([shorter, bad, short], RULES)
    assert best is short
    assert "none is optimal" in why
    best, why = choose([worse, bad], RULES)
    assert best is bad
    assert why == "all are overfitted; it has the fewest steps"
    with pytest.raises(ValueError, match="no variant"):
        choose([], RULES)
