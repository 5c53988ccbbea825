"""Labels shifted within texts: the p-value is the share of shifts, and it is fair where neighbours are alike."""

import numpy as np
import pytest

from crosspatch.statistics.permutation import LabelledText, excess_p_values


def excess(above: np.ndarray, of: np.ndarray) -> float:
    return above[of].mean() - above[~of].mean()


@pytest.mark.parametrize("apart", [2, 5])
def test_the_p_value_is_the_share_of_shifts_that_say_as_much(apart):
    """Two of six tokens are labelled; `apart` tokens have something above the line."""
    labels, above = np.array([1, 1, 0, 0, 0, 0]), np.array([1.0, 0.5, 0.25, 0.2, 0.1, 0.0])
    above[apart:] = 0
    shifts = [np.roll(labels, by) == 1 for by in range(6)]
    exact = np.mean([excess(above, shift) >= excess(above, labels == 1) - 1e-12 for shift in shifts])
    text = LabelledText(0, above, np.ones(6), labels)
    assert excess_p_values([text], 2, np.random.default_rng(1), 20_000)[1] == pytest.approx(exact, abs=0.015)
    # The control: where the labelled tokens have nothing, it is no excess.
    nothing = LabelledText(0, above[::-1].copy(), np.ones(6), labels)
    assert excess_p_values([nothing], 2, np.random.default_rng(1), 2000)[1] > 0.5


def test_texts_of_one_prompt_are_shifted_together_and_those_of_others_apart():
    def first(prompt: int, length: int) -> LabelledText:
        return LabelledText(prompt, np.eye(length)[0], np.ones(length), np.eye(length, dtype=np.int64)[0])

    for texts, expected in (
        # Two layers that have written the same text are no more evidence than one.
        ((first(0, 4), first(0, 4)), 1 / 4),
        ((first(0, 4), first(1, 4)), 1 / 16),
        # Texts of different length are shifted by the same part: one of eight shifts leaves both as they are.
        ((first(0, 8), first(0, 4)), 1 / 8),
    ):
        assert excess_p_values(texts, 2, np.random.default_rng(0), 20_000)[1] == pytest.approx(expected, abs=0.015)


def runs(rng: np.random.Generator, prompts: int, shift: float = 0.0, length: int = 40) -> list[LabelledText]:
    """Texts in which labels come in runs, and so do values; with a shift they are higher at the label."""
    texts = []
    for prompt in range(prompts):
        labels = np.repeat(rng.integers(0, 2, length // 5), 5)
        values = np.convolve(rng.normal(size=length + 7), np.ones(8) / np.sqrt(8), mode="valid")
        texts.append(LabelledText(prompt, values + shift * labels, np.ones(length), labels))
    return texts


def shuffled_singly(texts: list[LabelledText], rng: np.random.Generator, permutations: int) -> float:
    """The p-value of a test that shuffles the labels of single tokens, as if they were independent."""
    above, labels = (np.stack([getattr(text, name) for text in texts]) for name in ("above", "labels"))
    shuffled = [excess(above, rng.permuted(labels, axis=1) == 1) for _ in range(permutations)]
    return (1 + sum(value >= excess(above, labels == 1) for value in shuffled)) / (1 + permutations)


def test_runs_are_no_evidence_and_what_is_there_is_found():
    rng = np.random.default_rng(0)
    worlds = [runs(rng, 12) for _ in range(300)]
    shifted = [excess_p_values(texts, 2, rng, 199)[1] for texts in worlds]
    assert sum(p <= 0.05 for p in shifted) <= 0.08 * len(worlds)
    assert 0.4 < np.mean(shifted) < 0.6
    # Tokens shuffled one by one take runs for evidence.
    singly = [shuffled_singly(texts, rng, 99) for texts in worlds[:150]]
    assert sum(p <= 0.05 for p in singly) >= 0.12 * len(singly)
    something = [excess_p_values(runs(rng, 12, 0.8), 2, rng, 199)[1] for _ in range(50)]
    assert sum(p <= 0.05 for p in something) >= 45


def test_prompts_that_have_more_of_both_do_not_make_it_look_so():
    # Label 1 is found in prompts where all is high, but within them it is as any other.
    texts = [LabelledText(i, np.full(4, float(i % 2)), np.ones(4), np.array([i % 2, 0, 0, 0])) for i in range(12)]
    assert excess_p_values(texts, 2, np.random.default_rng(0))[1] == 1.0
    # A label that has all or nothing is not tested.
    for untested in ([], [LabelledText(0, np.ones(3), np.ones(3), np.zeros(3, dtype=np.int64))]):
        assert excess_p_values(untested, 2, np.random.default_rng(0)) == [None, None]
