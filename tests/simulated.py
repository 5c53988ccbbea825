"""Simulated runs whose truth is known: does an interval cover it? For the tests and benchmarks/claims.py."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np

from crosspatch.statistics.bootstrap import Ratios, bootstrap, largest_step, over_seeds, resamples
from crosspatch.statistics.halfway import crossing
from crosspatch.statistics.interval import Interval, Numbers

Draw = Callable[[int, np.random.Generator], Ratios]


def transfers(prompts: int, rng: np.random.Generator) -> Ratios:
    """Prompts with as many disagreements as they happen to have, and a recovered fraction of their own."""
    return _cells(rng.beta(2, 3, prompts), rng.gamma(2, 4, prompts), rng)


def correlated(prompts: int, rng: np.random.Generator) -> Ratios:
    """More is recovered in prompts with more disagreements."""
    size = rng.normal(size=prompts)
    return _cells(0.4 + 0.2 * size + rng.normal(0, 0.2, prompts), 8 * np.exp(0.8 * size), rng)


def _cells(effects: Numbers, sizes: Numbers, rng: np.random.Generator) -> Ratios:
    """Sums over the cells of each prompt: gaps, and what of each is recovered."""
    cells = 1 + rng.poisson(sizes)
    prompt = np.repeat(np.arange(len(cells)), cells)
    gaps = rng.lognormal(1, 0.7, len(prompt))
    moved = gaps * (effects[prompt] + rng.normal(0, 0.4, len(prompt)))
    return Ratios(np.bincount(prompt, moved), np.bincount(prompt, gaps))


def steps(prompts: int, rng: np.random.Generator) -> Ratios:
    """Two layers of the same prompts, of which the lower recovers half as much."""
    first = transfers(prompts, rng)
    lower = 0.5 * first.above[0] + first.below[0] * rng.normal(0.1, 0.1, prompts)
    return Ratios(np.stack([first.above[0], lower]), np.stack([first.below[0]] * 2))


def layers(prompts: int, rng: np.random.Generator) -> Ratios:
    first = transfers(prompts, rng)
    at = [share * first.above[0] + first.below[0] * rng.normal(0, 0.05, prompts) for share in (0.1, 0.5, 0.9)]
    return Ratios(np.stack(at), np.stack([first.below[0]] * 3))


def excess(prompts: int, rng: np.random.Generator) -> Ratios:
    """A class of cells and all others of the same prompts; some prompts have none of the class."""
    rest, own = transfers(prompts, rng), transfers(prompts, rng)
    some = rng.random(prompts) < 0.8
    above = some * (own.above[0] + 0.2 * own.below[0])
    return Ratios(np.stack([above, rest.above[0]]), np.stack([some * own.below[0], rest.below[0]]))


def rates(prompts: int, rng: np.random.Generator) -> Ratios:
    """How often the models disagree: mostly seldom."""
    of = rng.integers(30, 96, prompts)
    return Ratios(rng.binomial(of, rng.beta(0.6, 8, prompts)).astype(float), of.astype(float))


def flips(prompts: int, rng: np.random.Generator) -> Ratios:
    """How often the patched model writes y_corrupt where they disagree: mostly."""
    cells = 1 + rng.poisson(8, prompts)
    return Ratios(rng.binomial(cells, rng.beta(5, 0.6, prompts)).astype(float), cells.astype(float))


# Each with the weights of its ratios.
CONTRASTS: dict[str, tuple[Draw, Sequence[float]]] = {
    "recovered fraction": (transfers, (1.0,)),
    # Some prompts recover far more or less than all of it (Student's t with 3 degrees).
    "heavy tails": (lambda n, rng: _cells(0.4 + 0.3 * rng.standard_t(3, n), rng.gamma(2, 4, n), rng), (1.0,)),
    # In some prompts the models disagree many times as often as in others.
    "unequal prompts": (lambda n, rng: _cells(rng.beta(2, 3, n), 8 * rng.lognormal(0, 1, n), rng), (1.0,)),
    "correlated with the weight": (correlated, (1.0,)),
    "difference of layers": (steps, (1.0, -1.0)),
    "mean of layers": (layers, (1 / 3,) * 3),
    "excess of a class": (excess, (1.0, -1.0)),
    "disagreement rate": (rates, (1.0,)),
    "flip rate": (flips, (1.0,)),
}
SHARES = {"disagreement rate", "flip rate"}


def intervals(name: str, prompts: int, worlds: int, seed: int, draws: int = 600) -> Iterator[tuple[Ratios, Interval]]:
    """Worlds with so many prompts, and the interval of the contrast in each."""
    draw, weights = CONTRASTS[name]
    rng = np.random.default_rng(seed)
    for _ in range(worlds):
        data = draw(prompts, rng)
        yield data, bootstrap(data, resamples(prompts, rng, draws), weights, share=name in SHARES)


@cache
def truth(name: str) -> float:
    """The contrast over 100,000 prompts, which stand for all prompts."""
    draw, weights = CONTRASTS[name]
    return float(draw(100_000, np.random.default_rng(1)).values()[0] @ np.array(weights))


def covers(interval: Interval, true: float) -> bool:
    return interval.known and interval.low <= true <= interval.high


# Depth profiles: what is recovered at each of ten layers below the last.
PROFILES = {
    "even steps": tuple((i + 1) / 11 for i in range(10)),
    "one large step": (0.0, 0.02, 0.05, 0.1, 0.15, 0.7, 0.8, 0.85, 0.9, 0.95),
    "two large steps": (0.0, 0.02, 0.04, 0.4, 0.42, 0.44, 0.8, 0.84, 0.9, 0.95),
}


def profile(name: str, prompts: int, rng: np.random.Generator) -> Ratios:
    """The layers of a profile in the same prompts: each prompt is early or late, and has errors of its own."""
    below = rng.lognormal(1, 0.7, prompts)
    curve = np.array(PROFILES[name])[:, None]
    early = rng.normal(0, 0.15, prompts) * 4 * curve * (1 - curve)
    return Ratios((curve + early + rng.normal(0, 0.08, (len(curve), prompts))) * below, np.tile(below, (len(curve), 1)))


def of_profiles(
    name: str, prompts: int, worlds: int, seed: int, draws: int = 600
) -> Iterator[tuple[Interval, Interval]]:
    """The intervals of the largest step, and of the layer at which half is recovered, in each of so many worlds."""
    rng = np.random.default_rng(seed)
    for _ in range(worlds):
        data, counts = profile(name, prompts, rng), resamples(prompts, rng, draws)
        yield largest_step(data, counts)[1], crossing(data, range(10), 10, counts)


def true_half(name: str) -> float:
    """The layer at which half of a profile is recovered."""
    return float(np.interp(0.5, [*PROFILES[name], 1.0], range(11)))


def true_step(name: str) -> float:
    return float(np.diff([0, *PROFILES[name], 1]).max())


def of_seeds(
    seeds: int, prompts: int, rng: np.random.Generator, *, crossed: bool, between: tuple[float, float] = (0.1, 0.2)
) -> tuple[Ratios, np.ndarray, np.ndarray]:
    """Children of several seeds, after the same prompts (crossed) or each after its own: (ratios, seeds, prompts).

    `between` are the deviations between seeds and between prompts.
    """
    seed = np.repeat(np.arange(seeds), prompts)
    prompt = np.tile(np.arange(prompts), seeds) if crossed else np.arange(seeds * prompts)
    below = (rng.lognormal(1, 0.6, prompt.max() + 1))[prompt] * rng.lognormal(0, 0.3, len(prompt))
    child, question = rng.normal(0, between[0], seeds), rng.normal(0, between[1], prompt.max() + 1)
    effect = 0.4 + child[seed] + question[prompt] + rng.normal(0, 0.2, len(prompt))
    return Ratios(effect * below, below), seed, prompt


def over_several_seeds(
    seeds: int, prompts: int, worlds: int, seed: int, *, crossed: bool, between: tuple[float, float] = (0.1, 0.2)
) -> Iterator[tuple[Interval, Interval]]:
    """The interval over seeds and prompts in each of so many worlds, and as if prompts were nested in seeds."""
    rng = np.random.default_rng(seed)
    for _ in range(worlds):
        ratios, by_seed, by_prompt = of_seeds(seeds, prompts, rng, crossed=crossed, between=between)
        yield over_seeds(ratios, by_seed, by_prompt), over_seeds(ratios, by_seed, np.arange(len(by_seed)))
