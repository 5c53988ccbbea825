"""The layer at which half is recovered or lost, by hand; its coverage is in test_bootstrap.py."""

import numpy as np
import polars as pl
import pytest

from crosspatch.statistics.bootstrap import Ratios, resamples
from crosspatch.statistics.halfway import crossing, halfway
from crosspatch.statistics.interval import sign_test
from crosspatch.tables import BEHAVIOUR, HALFWAY, SCORES
from score_cells import answers, cell

PROMPTS = [f"p{i:02d}" for i in range(12)]
DOMAINS = dict.fromkeys(PROMPTS, "related")


def scores(curve: dict[int, float], direction: str = "corrupt") -> pl.DataFrame:
    """Every prompt has recovered so much at each layer, a little more or less."""
    sign = 1 if direction == "corrupt" else -1
    return SCORES.frame(
        cell(prompt, layer, 0, (-1.0, 1.0, sign * (2 * share + 0.04 * (i % 3 - 1) - 1)), direction=direction)
        for i, prompt in enumerate(PROMPTS)
        for layer, share in curve.items()
    )


@pytest.mark.parametrize("direction", ["corrupt", "repair"])
@pytest.mark.parametrize(
    ("curve", "layer"),
    [
        # Between 0.4 at layer 10 and 0.8 at layer 20 there is 0.5 at 12.5.
        ({0: 0.0, 10: 0.4, 20: 0.8, 29: 1.0}, 12.5),
        # At once at the lowest that was patched, and not before the ceiling.
        ({5: 0.7, 10: 0.8, 29: 1.0}, 5.0),
        ({0: 0.0, 19: 0.0, 29: 1.0}, 24.0),
        # A dip is noise: the curve is sorted first.
        ({0: 0.0, 10: 0.6, 12: 0.2, 20: 0.9, 29: 1.0}, 11.5),
    ],
)
def test_half_of_the_effect_by_hand(curve, layer, direction):
    [row] = halfway(scores(curve, direction), BEHAVIOUR.frame(), DOMAINS, n_layers=30).to_dicts()
    assert row["estimate"] == pytest.approx(layer, abs=0.02)
    assert row["low"] <= row["estimate"] <= row["high"]
    assert min(curve) <= row["low"] <= row["high"] <= 29
    assert (row["of"], row["direction"], row["n_prompts"]) == ("effect", direction, 12)


@pytest.mark.parametrize(("condition", "direction"), [("patched", "corrupt"), ("repaired", "repair")])
def test_half_of_the_right_answers_by_hand(condition, direction):
    """Each question is lost from a layer of its own on; one more is right in both models, and one in none."""
    turns = np.repeat([2.5, 4.5, 6.5], [3, 4, 5])
    rows = answers("clean", "c" * 12 + "ci") + answers("corrupted", "i" * 12 + "ci")
    for layer in range(9):
        right = (layer < turns) == (condition == "patched")
        rows += answers(condition, "".join(np.where(right, "c", "i")) + "ci", f"L{layer}.resid_post")
    [row] = halfway(SCORES.frame(), BEHAVIOUR.frame(rows), {}, n_layers=10).to_dicts()
    # 3 of 12 are lost by layer 4, 7 by layer 5.
    assert row["estimate"] == pytest.approx(4 + (0.5 - 3 / 12) / (4 / 12))
    # The two that a patch says nothing of are left out.
    assert (row["of"], row["n_prompts"], row["direction"]) == ("answers", 12, direction)


def test_half_of_the_answers_is_lost_at_the_same_layer_for_any_number_of_prompts():
    """The control: the first layer with a significant loss comes sooner with more prompts."""
    rng, half, first = np.random.default_rng(0), [], []
    for n in (12, 24, 48, 108):
        turns = rng.normal(20, 4, n)
        rows = answers("clean", "c" * n) + answers("corrupted", "i" * n)
        for layer in range(29):
            rows += answers("patched", "".join(np.where(layer < turns, "c", "i")), f"L{layer}.resid_post")
        [row] = halfway(SCORES.frame(), BEHAVIOUR.frame(rows), {}, n_layers=30).to_dicts()
        half.append(row["estimate"])
        first.append(next(i for i in range(29) if sign_test(int((turns <= i).sum()), 0) * 29 <= 0.05))
        assert row["low"] <= 20.5 <= row["high"]
    assert max(half) - min(half) < 2.5
    assert first == sorted(first, reverse=True)
    assert first[0] - first[-1] >= 6


def test_few_prompts_have_no_interval_and_other_components_no_half():
    few = Ratios(np.array([[0.1] * 4, [0.9] * 4]), np.ones((2, 4)))
    found = crossing(few, [0, 1], 2, resamples(4, np.random.default_rng(0)))
    assert (found.estimate, found.known) == (0.5, False)
    assert crossing(Ratios(few.above, np.zeros((2, 4))), [0, 1], 2, np.ones((1, 4))).estimate is None
    # What a part of a block recovers does not add up.
    table = scores({0: 0.0, 10: 0.4, 20: 0.8}).with_columns(component=pl.lit("attn_out"))
    found = halfway(table, BEHAVIOUR.frame(), DOMAINS, n_layers=30)
    assert (found.is_empty(), dict(found.schema)) == (True, pl.Schema(HALFWAY.dtypes))
