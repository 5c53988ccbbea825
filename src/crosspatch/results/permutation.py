"""Is a label where the values are, beyond chance? Labels are dealt anew within each prompt.

Within prompts, so that prompts which differ in how much they have of either cannot make it look so. Knows numbers and
labels only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosspatch.results.interval import Numbers

PERMUTATIONS = 2000


@dataclass(frozen=True)
class Labelled:
    """Cells of one prompt: sums above and below the line of each, and a label each, [cells] all."""

    above: Numbers
    below: Numbers
    labels: NDArray[np.int64]


def chance_of_excess(
    prompts: Sequence[Labelled], labels: int, rng: np.random.Generator, permutations: int | None = None
) -> list[float | None]:
    """For each label the one-sided p-value that its ratio of sums exceeds the other cells' as much by chance.

    The statistic is Σ above / Σ below over the label's cells less the same over all others. None where a label has
    all cells or none.
    """
    permutations = permutations or PERMUTATIONS
    observed = np.zeros((1, labels, 2))
    dealt = np.zeros((permutations, labels, 2))
    totals = np.zeros(2)
    for prompt in prompts:
        values = np.stack([prompt.above, prompt.below], axis=1)
        totals += values.sum(0)
        observed += _sums(prompt.labels[None], values, labels)
        shuffled = rng.permuted(np.tile(prompt.labels, (permutations, 1)), axis=1)
        dealt += _sums(shuffled, values, labels)
    seen, chance = _excess(observed, totals)[0], _excess(dealt, totals)
    return [
        None if not np.isfinite(seen[label]) else _p_value(chance[:, label], float(seen[label]))
        for label in range(labels)
    ]


def _sums(labels: NDArray[np.int64], values: Numbers, count: int) -> Numbers:
    """Sums of the cells of each label, [draws, labels, 2], of labels [draws, cells] and values [cells, 2].

    Whatever is dealt, a label has as many cells; so only those whose values are not the common ones are added up.
    """
    common = values[values[:, 0].argmin()]
    apart = (values != common).any(1)
    draws = labels.shape[0]
    places = (np.arange(draws)[:, None] * count + labels[:, apart]).ravel()
    each = [np.bincount(places, np.tile(of, draws), draws * count) for of in (values[apart] - common).T]
    return np.bincount(labels[0], minlength=count)[:, None] * common + np.stack(each, axis=1).reshape(draws, count, 2)


def _excess(sums: Numbers, totals: Numbers) -> Numbers:
    rest = totals - sums
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1] - rest[..., 0] / rest[..., 1]


def _p_value(chance: Numbers, seen: float) -> float:
    defined = chance[np.isfinite(chance)]
    # The deal that was seen is one of those that chance could have dealt (Phipson and Smyth 2010).
    return float((1 + (defined >= seen - 1e-12).sum()) / (1 + len(defined)))
