"""Cross-fitting: what was chosen by some prompts is tested on the others.

The best of many candidates looks better on the prompts that chose it than it is. So each half of the prompts chooses,
and only what its choice does on the other half counts. Halves, since more folds have most of their choosing prompts in
common: then what is tested has been chosen by nearly all that test it, and intervals are too narrow (of equal
candidates 8 to 18 % are told apart with 5 or 12 folds, 5 % with halves).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from crosspatch.results.interval import Numbers


def ranked_elsewhere(above: Numbers, below: Numbers, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """For each half its prompts, and all candidates from best to worst by the ratio of sums over the other half.

    `above` has the sums of K candidates after N prompts, [K, N], and `below` what all are divided by, [N].
    """
    half = np.random.default_rng([seed, len(below)]).permutation(len(below)) % 2
    for number in (0, 1):
        others = half != number
        total = below[others].sum()
        shares = above[:, others].sum(1) / total if total else np.zeros(len(above))
        yield np.flatnonzero(~others), np.argsort(-shares, kind="stable")


def held_out(above: Numbers, below: Numbers, seed: int, rank: int = 0) -> Numbers:
    """What the candidate of this rank among the other half has above the line, after each prompt: [N].

    Raises ValueError for a single prompt, which has no others.
    """
    if len(below) < 2:
        raise ValueError("got one prompt, expected two or more: one has to choose for the other")
    found = np.zeros(len(below))
    for prompts, ranked in ranked_elsewhere(above, below, seed):
        found[prompts] = above[ranked[rank], prompts]
    return found
