"""How honest the claims are: `python benchmarks/claims.py coverage` and `python benchmarks/claims.py null`.

`coverage`: how often nominal intervals of 95 % cover a truth that is known, with 8, 12 and 24 prompts, and over five
seeds. `null`: how many claims are shown in worlds in which all of them are false, over three tiny pairs. The tests have
the same simulations with fewer worlds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from crosspatch.results import bootstrap, permutation
from crosspatch.results.interval import Interval, wilson
from null_worlds import ARCHITECTURES, DEALT, false_claims
from simulated import (
    CONTRASTS,
    PROFILES,
    covers,
    half_layers,
    intervals,
    largest_steps,
    over_several_seeds,
    true_half,
    true_step,
    truth,
)

PROMPTS = (8, 12, 24)
DRAWS = 600


def coverage(worlds: int, seed: int) -> None:
    """A row for each kind of interval and number of prompts."""
    print("| interval of | prompts | n_eff | known | covers |")
    print("| --- | --- | --- | --- | --- |")
    for name in CONTRASTS:
        for prompts in PROMPTS:
            found = [interval for _, interval in intervals(name, prompts, worlds, seed, DRAWS)]
            _covered(name, prompts, found, truth(name))
    for name in PROFILES:
        for prompts in PROMPTS:
            steps = list(largest_steps(name, prompts, worlds, seed, DRAWS))
            _covered(f"largest step, {name}", prompts, steps, true_step(name))
            halves = list(half_layers(name, prompts, worlds, seed, DRAWS))
            _covered(f"layer of one half, {name}", prompts, halves, true_half(name))
    for crossed, how in ((True, "crossed"), (False, "nested")):
        for between in ((0.1, 0.2), (0.02, 0.3), (0.2, 0.05)):
            found = [own for own, _ in over_several_seeds(5, 24, worlds, seed, crossed=crossed, between=between)]
            _covered(f"5 seeds, {how}, deviations {between[0]} and {between[1]}", 24, found, 0.4)


def _covered(name: str, prompts: int, found: Iterable[Interval], true: float) -> None:
    found = list(found)
    known = [interval for interval in found if interval.known]
    effective = sum(interval.effective or 0 for interval in found) / len(found)
    inside = sum(covers(interval, true) for interval in known)
    share = f"{inside / len(known):.3f}" if known else "–"
    print(f"| {name} | {prompts} | {effective:.1f} | {len(known) / len(found):.2f} | {share} |", flush=True)


def null(worlds: int, seed: int) -> None:
    """A row for each claim, over all pairs."""
    each = [worlds // len(ARCHITECTURES) + (i < worlds % len(ARCHITECTURES)) for i in range(len(ARCHITECTURES))]
    made: Counter[tuple[str, str]] = Counter()
    with ProcessPoolExecutor(2, initializer=_fewer_draws) as pool:
        for found in pool.map(_counted, ARCHITECTURES, each, [seed] * len(each)):
            made += found
    print(f"{worlds} worlds, {', '.join(f'{n} of {name}' for n, name in zip(each, ARCHITECTURES, strict=True))}\n")
    print("| false claim | made | shown | contradicted |")
    print("| --- | --- | --- | --- |")
    for name in sorted({name for name, _ in made}):
        count = sum(made[name, verdict] for verdict in ("shown", "contradicted", "undecided"))
        contradicted = made[name, "contradicted"] if name in DEALT else "truly"
        print(f"| {name} | {count} | {made[name, 'shown']} | {contradicted} |")
    shown = sum(count for (_, verdict), count in made.items() if verdict == "shown")
    wrong = shown + sum(made[name, "contradicted"] for name in DEALT)
    for what, count in (("falsely shown", shown), ("falsely shown or contradicted", wrong)):
        found = wilson(count, made.total())
        print(f"\n{what}: {count} of {made.total()}, {found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]")


def _fewer_draws() -> None:
    bootstrap.DRAWS = permutation.PERMUTATIONS = DRAWS


def _counted(architecture: str, worlds: int, seed: int) -> Counter[tuple[str, str]]:
    return Counter(false_claims(architecture, worlds, seed))


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
