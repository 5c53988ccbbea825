"""How honest the claims are: `python benchmarks/claims.py coverage` and `python benchmarks/claims.py null`.

`coverage`: how often nominal intervals of 95 % cover a truth that is known, with 8, 12 and 24 prompts, and over five
seeds. `null`: how many claims are shown in worlds in which all of them are false, over three tiny pairs. The tests have
the same simulations with fewer worlds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from crosspatch.statistics import bootstrap, interval, permutation
from crosspatch.statistics.interval import Interval, wilson
from null_worlds import ARCHITECTURES, DEALT, false_claims
from simulated import (
    CONTRASTS,
    PROFILES,
    covers,
    intervals,
    of_profiles,
    over_several_seeds,
    true_half,
    true_step,
    truth,
)

PROMPTS = (8, 12, 24)
DRAWS = 600
# A claim that was made: in which world, its name and its verdict.
Made = tuple[str, str, str]
_DECIDED = {"shown", "contradicted"}
# Prompts of unequal weight, and effective numbers between which coverage is told.
UNEQUAL, BINS = ("unequal prompts", "correlated with the weight"), (2, 3, 4, 5, 6, 8, 12, 25)


def coverage(worlds: int, seed: int) -> None:
    """A row for each kind of interval and number of prompts."""
    print("| interval of | prompts | n_eff | known | covers |")
    print("| --- | --- | --- | --- | --- |")
    for name in CONTRASTS:
        for prompts in PROMPTS:
            found = [one for _, one in intervals(name, prompts, worlds, seed, DRAWS)]
            _covered(name, prompts, found, truth(name))
    _by_effective(worlds, seed)
    for name in PROFILES:
        for prompts in PROMPTS:
            steps, halves = zip(*of_profiles(name, prompts, worlds, seed, DRAWS), strict=True)
            _covered(f"largest step, {name}", prompts, steps, true_step(name))
            _covered(f"layer of one half, {name}", prompts, halves, true_half(name))
    for crossed, how in ((True, "crossed"), (False, "nested")):
        for between in ((0.1, 0.2), (0.02, 0.3), (0.2, 0.05)):
            found = [own for own, _ in over_several_seeds(5, 24, worlds, seed, crossed=crossed, between=between)]
            _covered(f"5 seeds, {how}, deviations {between[0]} and {between[1]}", 24, found, 0.4)


def _by_effective(worlds: int, seed: int) -> None:
    """Coverage by the effective number of prompts, also where that is too small for an interval."""
    fewest, interval.FEWEST_EFFECTIVE = interval.FEWEST_EFFECTIVE, 0.0
    for name in UNEQUAL:
        found = [one for n in (12, 24) for _, one in intervals(name, n, worlds, seed + 1, DRAWS)]
        for least, most in pairwise(BINS):
            some = [one for one in found if least <= (one.effective or 0) < most]
            if some:
                _covered(f"{name}, {least} ≤ n_eff < {most}", "12, 24", some, truth(name))
    interval.FEWEST_EFFECTIVE = fewest


def _covered(name: str, prompts: int | str, found: Iterable[Interval], true: float) -> None:
    found = list(found)
    known = [one for one in found if one.known]
    effective = sum(one.effective or 0 for one in found) / len(found)
    inside = sum(covers(one, true) for one in known)
    share = f"{inside / len(known):.3f}" if known else "–"
    print(f"| {name} | {prompts} | {effective:.1f} | {len(known) / len(found):.2f} | {share} |", flush=True)


def null(worlds: int, seed: int) -> None:
    """A row for each claim, over all pairs."""
    each = [worlds // len(ARCHITECTURES) + (i < worlds % len(ARCHITECTURES)) for i in range(len(ARCHITECTURES))]
    with ProcessPoolExecutor(2, initializer=_fewer_draws) as pool:
        made = [found for of_pair in pool.map(_made, ARCHITECTURES, each, [seed] * len(each)) for found in of_pair]
    print(f"{worlds} worlds, {', '.join(f'{n} of {name}' for n, name in zip(each, ARCHITECTURES, strict=True))}\n")
    print("| false claim | made | shown | contradicted |")
    print("| --- | --- | --- | --- |")
    for name in sorted({name for _, name, _ in made}):
        verdicts = [verdict for _, of, verdict in made if of == name]
        contradicted = str(verdicts.count("contradicted")) if name in DEALT else "not false"
        print(f"| {name} | {len(verdicts)} | {_rate(name, made, {'shown'})} | {contradicted} |")
    for what, wrong in (("shown", {"shown"}), ("shown, or contradicted though there is no difference", _DECIDED)):
        print(f"\n{what}: {_rate(None, made, wrong)} of {len(made)}")


def _rate(name: str | None, made: Sequence[Made], wrong: Collection[str]) -> str:
    """How many false claims have a verdict that is wrong, with Wilson's interval of their share.

    Claims of one world depend on each other: as many independent ones are counted as give the share between worlds its
    variance.
    """
    some = [found for found in made if name is None or found[1] == name]
    is_wrong = [verdict in (wrong if of in DEALT else {"shown"}) for _, of, verdict in some]
    count, share = sum(is_wrong), sum(is_wrong) / len(some)
    by_world: dict[str, float] = {}
    for (world, _, _), one in zip(some, is_wrong, strict=True):
        by_world[world] = by_world.get(world, 0.0) + one - share
    between, within = sum(part**2 for part in by_world.values()), len(some) * share * (1 - share)
    independent = len(some) / max(1.0, between / within if within else 1.0)
    found = wilson(round(share * independent), round(independent))
    return f"{count} ({share:.1%}, {found.low:.1%} to {found.high:.1%})"


def _fewer_draws() -> None:
    bootstrap.DRAWS = permutation.PERMUTATIONS = DRAWS


def _made(architecture: str, worlds: int, seed: int) -> list[Made]:
    return [(f"{architecture} {n}", name, verdict) for n, name, verdict in false_claims(architecture, worlds, seed)]


def main() -> None:
    """Run one of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("coverage", "null"))
    parser.add_argument("--worlds", type=int, help="2000 of each interval, 400 null worlds")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.what == "coverage":
        coverage(options.worlds or 2000, options.seed)
    else:
        null(options.worlds or 400, options.seed)


if __name__ == "__main__":
    main()
