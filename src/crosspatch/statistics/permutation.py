"""Permutation test: do tokens with a label have higher values than expected by chance? Labels are shifted in each text.

Values and labels of neighbouring tokens are correlated, so shuffling single tokens would give p-values that are too
small (`test_permutation.py`). A circular shift keeps both sequences and breaks only the relation between them. Labels
are shifted within texts, so differences between prompts have no influence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosspatch.statistics.interval import Numbers

PERMUTATIONS = 2000


@dataclass(frozen=True)
class LabelledText:
    """The tokens of one text: their terms in a numerator (above) and denominator (below), and their labels, [tokens].

    All texts of a `prompt` are shifted by the same fraction of their length, since patched layers write similar texts.
    """

    prompt: int
    above: Numbers
    below: Numbers
    labels: NDArray[np.int64]


def excess_p_values(
    texts: Sequence[LabelledText], labels: int, rng: np.random.Generator, permutations: int | None = None
) -> list[float | None]:
    """Compute for each label the one-sided p-value of its excess: its ratio of sums minus that of all other tokens.

    The ratio of sums is Σ above / Σ below. The p-value is None if all tokens have the label, or none.
    """
    permutations = permutations or PERMUTATIONS
    seen, shifted = np.zeros((labels, 2)), np.zeros((permutations, labels, 2))
    for prompt in dict.fromkeys(text.prompt for text in texts):
        sums = _all_shifts([text for text in texts if text.prompt == prompt], labels)
        seen += sums[0]
        shifted += sums[rng.integers(len(sums), size=permutations)]
    totals = seen.sum(0)
    observed, chance = _excess(seen, totals), _excess(shifted, totals)
    return [
        _p_value(chance[:, label], float(observed[label])) if np.isfinite(observed[label]) else None
        for label in range(labels)
    ]


def _all_shifts(texts: Sequence[LabelledText], labels: int) -> Numbers:
    """Sum the tokens of each label under every shift of a prompt's texts, [shifts, labels, 2]; unshifted first."""
    longest = max((len(text.labels) for text in texts), default=0)
    sums = np.zeros((max(longest, 1), labels, 2))
    for text in texts:
        if not (length := len(text.labels)):
            continue
        values, of_label = np.stack([text.above, text.below]), np.eye(labels)[text.labels].T
        # The circular cross-correlation of labels and values.
        spectrum = np.fft.rfft(values)[None] * np.fft.rfft(of_label).conj()[:, None]
        of_shift = np.fft.irfft(spectrum, length).transpose(2, 0, 1)
        sums += of_shift[np.arange(longest) * length // longest]
    return sums


def _excess(sums: Numbers, totals: Numbers) -> Numbers:
    """Compute each label's ratio minus that of all other tokens, [..., labels]; NaN if a denominator is 0."""
    rest = totals - sums
    # The Fourier transform loses digits, so values this small count as 0.
    least = 1e-9 * np.abs(totals[1])
    own, others = (np.where(each[..., 1] > least, each[..., 1], np.nan) for each in (sums, rest))
    excess: Numbers = sums[..., 0] / own - rest[..., 0] / others
    return excess


def _p_value(chance: Numbers, seen: float) -> float:
    defined = chance[np.isfinite(chance)]
    # The unshifted labels are one of the possible shifts (Phipson and Smyth 2010).
    return float((1 + (defined >= seen - 1e-9 * max(1.0, abs(seen))).sum()) / (1 + len(defined)))
