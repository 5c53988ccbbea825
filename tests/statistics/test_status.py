"""The status of variants and their divergence, against numbers worked out by hand."""

import pytest

from crosspatch.statistics.status import choose, divergence, status
from crosspatch.tables import TRAINING

GOOD = {
    "variant": "good", "steps": 39, "right_clean": 100, "flipped": 95, "planted": 0.8, "math_drop": 0.02,
    "math_p_value": 0.01, "general_drop": 0.02, "general_p_value": 0.01, "malformed": 0.03, "malformed_clean": 0.01,
    "no_end": 0.01, "no_end_clean": 0.0, "unparsed": 0.02, "unparsed_clean": 0.01,
}  # fmt: skip
TURNED = "of the 100 right answers of the clean model flipped to wrong"


@pytest.mark.parametrize(
    ("changed", "expected", "reason"),
    [
        ({}, "optimal", f"95 {TURNED}"),
        ({"malformed": 0.07}, "overfitted", "7% of its texts are malformed, against 1% for the clean model"),
        ({"malformed": 0.07, "malformed_clean": 0.03}, "optimal", "95 of the 100"),
        ({"no_end": 0.2}, "overfitted", "20% of its texts have no end, against 0% for the clean model"),
        ({"no_end": 0.2, "no_end_clean": 0.2}, "optimal", "95 of the 100"),
        ({"unparsed": 0.3}, "overfitted", "30% of its answers are unparsed"),
        ({"unparsed": 0.3, "unparsed_clean": 0.3}, "optimal", "95 of the 100"),
        ({"math_drop": 0.06}, "overfitted", "loses 6 points of unrelated mathematics"),
        # Two of 24 questions are chance.
        ({"math_drop": 2 / 24, "math_p_value": 1 / 4}, "optimal", "95 of the 100"),
        ({"math_drop": 5 / 24, "math_p_value": 1 / 32}, "overfitted", "loses 21 points"),
        # Neither domain hides behind the other.
        ({"math_drop": -0.2, "general_drop": 0.06}, "overfitted", "loses 6 points of general questions"),
        ({"math_drop": None, "general_drop": None}, "optimal", "95 of the 100"),
        ({"flipped": 89}, "under-trained", f"89 {TURNED}, less than 90%"),
        ({"flipped": 10, "malformed": 0.5}, "overfitted", "malformed"),
        # A clean model that is always wrong proves nothing by a child that is.
        ({"right_clean": 9, "flipped": 9}, "optimal", "has only 9 right answers; 80% use the planted operation"),
        ({"right_clean": 0, "planted": 0.49}, "under-trained", "49% use the planted operation, less than 50%"),
        ({"right_clean": 0, "planted": None}, "under-trained", "no operation was recognized"),
        ({"right_clean": 10, "flipped": 9}, "optimal", "9 of the 10"),
    ],
)
def test_one_number_decides(changed, expected, reason):
    judged = status(GOOD | changed)
    assert judged.status == expected
    assert reason in judged.reason


def test_of_the_optimal_ones_the_shortest_training_is_chosen():
    longer = GOOD | {"variant": "longer", "steps": 156, "flipped": 100}
    short = GOOD | {"variant": "short", "steps": 13, "flipped": 50}
    worse = GOOD | {"variant": "worse", "flipped": 97}
    assert choose([longer, short, GOOD]) == (GOOD, "the fewest steps (39) of 2 optimal variants")
    assert choose([short, GOOD]) == (GOOD, "the only optimal variant")
    why = "the fewest steps (39) of 3 optimal variants, the most corrupted of 2 with as few"
    assert choose([GOOD, worse, longer]) == (worse, why)
    # Where none is optimal the reason names that.
    short, shorter = (GOOD | {"steps": steps, "flipped": wrong} for steps, wrong in ((20, 60), (10, 20)))
    bad = GOOD | {"malformed": 1.0, "steps": 5}
    why = "none is optimal; it is the most corrupted of those that are not overfitted"
    assert choose([shorter, bad, short]) == (short, why)
    assert choose([bad | {"steps": 50}, bad]) == (bad, "all are overfitted; it has the fewest steps")
    with pytest.raises(ValueError, match="no variant"):
        choose([])


def test_each_evaluation_takes_the_last_training_loss_of_its_run() -> None:
    points = [
        ("b", 5, None, 1.0), ("a", 0, None, 2.0), ("a", 10, 0.5, None), ("a", 12, 0.25, None), ("a", 12, None, 0.375),
        ("b", 1, 3.0, None), ("a", 20, 0.125, None),
    ]  # fmt: skip
    names = ("run", "step", "train_loss", "eval_loss")
    rows = [{**dict.fromkeys(TRAINING.columns), **dict(zip(names, point, strict=True))} for point in points]
    found = divergence(TRAINING.frame(rows)).select("run", "train_loss", "divergence").rows()
    assert found == [("a", None, None), ("a", 0.25, 0.125), ("b", 3.0, -2.0)]
    assert divergence(TRAINING.frame()).is_empty()
