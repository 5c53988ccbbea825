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
# So many cells are added up at once.
_AT_ONCE = 200


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
    prompts = [prompt for prompt in prompts if len(prompt.labels)]
    if not prompts:
        return [None] * labels
    values = np.concatenate([np.stack([prompt.above, prompt.below], axis=1) for prompt in prompts])
    given = np.concatenate([prompt.labels for prompt in prompts])
    of_prompt = np.repeat(np.arange(len(prompts)), [len(prompt.labels) for prompt in prompts])
    # Whatever is dealt, a label has as many cells of a prompt: so of the cells with the values that are common there
    # only the number counts, and where the others are dealt has to be seen.
    lowest = np.lexsort((values[:, 0], of_prompt))[np.searchsorted(of_prompt, np.arange(len(prompts)))]
    common = values[lowest][of_prompt]
    apart = (values != common).any(1)
    always = _sums(given[None], common, labels)
    dealt = np.tile(always, (permutations, 1, 1))
    beyond, seen_of = (values - common)[apart], np.split(apart, np.flatnonzero(np.diff(of_prompt)) + 1)
    waiting: list[NDArray[np.int64]] = []
    first = last = 0
    for prompt, seen in zip(prompts, seen_of, strict=True):
        waiting.append(_dealt(prompt.labels, int(seen.sum()), permutations, rng))
        last += waiting[-1].shape[1]
        if last - first >= _AT_ONCE or prompt is prompts[-1]:
            dealt += _sums(np.concatenate(waiting, axis=1), beyond[first:last], labels)
            waiting, first = [], last
    totals = values.sum(0)
    # Added up like those that are dealt, so that a deal as it was is not told from it by the last digit.
    there = always + _sums(given[None, apart], beyond, labels)
    observed, chance = _excess(there, totals)[0], _excess(dealt, totals)
    return [
        None if not np.isfinite(observed[label]) else _p_value(chance[:, label], float(observed[label]))
        for label in range(labels)
    ]


def _dealt(labels: NDArray[np.int64], some: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The labels [draws, some] that so many of a prompt's cells get when all of its labels are dealt anew."""
    left = np.tile(labels, (draws, 1))
    if 2 * some > len(labels):
        return rng.permuted(left, axis=1)[:, :some]
    # The others need not be dealt: as many steps of a Fisher-Yates shuffle as there are cells to see.
    draw, chosen = np.arange(draws), np.empty((draws, some), np.int64)
    ranks = (rng.random((some, draws)) * (len(labels) - np.arange(some)[:, None])).astype(np.intp)
    for place in range(some):
        at = place + ranks[place]
        chosen[:, place] = left[draw, at]
        left[draw, at] = left[:, place]
    return chosen


def _sums(labels: NDArray[np.int64], values: Numbers, count: int) -> Numbers:
    """Sums of the cells of each label, [draws, labels, 2], of labels [draws, cells] and values [cells, 2]."""
    draws = len(labels)
    bins = (np.arange(draws)[:, None] * count + labels).ravel()
    each: list[Numbers] = [np.bincount(bins, np.tile(of, draws), draws * count).astype(float) for of in values.T]
    return np.stack(each, axis=1).reshape(draws, count, 2)


def _excess(sums: Numbers, totals: Numbers) -> Numbers:
    rest = totals - sums
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1] - rest[..., 0] / rest[..., 1]


def _p_value(chance: Numbers, seen: float) -> float:
    defined = chance[np.isfinite(chance)]
    # The deal that was seen is one of those that chance could have dealt (Phipson and Smyth 2010).
    return float((1 + (defined >= seen - 1e-12).sum()) / (1 + len(defined)))
