"""Permutation test: do tokens with a label have higher values than chance gives? Labels are shifted within each text.

Values and labels of neighbouring tokens are alike, so a test that shuffles single tokens would take runs of them for
evidence (`test_permutation.py`). A circular shift keeps both sequences and breaks only the relation between them. It
stays within texts, so differences between prompts have no influence.
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
    """The tokens of one text: each one's part in numerator (above) and denominator (below), and its label, [tokens].

    All texts of one `prompt` are shifted by the same part of their length: patched layers write similar texts.
    """

    prompt: int
    above: Numbers
    below: Numbers
    labels: NDArray[np.int64]


def excess_p_values(
    texts: Sequence[LabelledText], labels: int, rng: np.random.Generator, permutations: int | None = None
) -> list[float | None]:
    """For each label the one-sided p-value that its ratio of sums exceeds the other tokens' as much by chance.

    The statistic is Σ above / Σ below over the label's tokens less the same over all others. None where a label has
    all tokens or none.
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
    """Sums of the tokens of each label under every shift of a prompt's texts, [shifts, labels, 2]; unshifted first."""
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
    """Each label's ratio less that of all other tokens, [..., labels]; NaN where one of them has nothing below."""
    rest = totals - sums
    # The transform loses digits: what is this small is 0.
    least = 1e-9 * np.abs(totals[1])
    own, others = (np.where(each[..., 1] > least, each[..., 1], np.nan) for each in (sums, rest))
    excess: Numbers = sums[..., 0] / own - rest[..., 0] / others
    return excess


def _p_value(chance: Numbers, seen: float) -> float:
    defined = chance[np.isfinite(chance)]
    # The unshifted labels are one of the possible shifts (Phipson and Smyth 2010).
    return float((1 + (defined >= seen - 1e-9 * max(1.0, abs(seen))).sum()) / (1 + len(defined)))
