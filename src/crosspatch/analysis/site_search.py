"""A greedy or beam search for a small set of sites that, patched together, recovers a given fraction.

The best single sites need not be the best set: two of them may carry the same information. So sets grow one site at a
time, and each set is measured exactly along given texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from tqdm import tqdm

from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.errors import UsageError
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch, Schedule
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun, Trajectory, recovered

DISAGREE = Schedule(disagree=True)

_ROUNDS = {"round": pl.Int32, "rank": pl.Int32, "patch": pl.String, "sites": pl.Int32, "recovered_fraction": pl.Float64}
# Sites in their order; their recovered fraction comes with them.
_Set = tuple[Site, ...]


@dataclass(frozen=True)
class SiteSearch:
    """What a search kept in each round, and what it found.

    `rounds`: `round` (from 1), `rank` in it (from 1), `patch`, its number of `sites`, and the exact
    `recovered_fraction`. `found` is the smallest set that reached what was wanted, or else the one that came nearest;
    None where no site recovered anything. Its size is an upper bound: a smaller set may exist that the search did not
    try.
    """

    rounds: pl.DataFrame
    found: Patch | None
    recovered_fraction: float
    reached: bool


def search_sites(
    pair: ModelPair,
    texts: Sequence[ForcedText],
    candidates: Sequence[Patch],
    run: PatchRun,
    *,
    wanted: float = 0.8,
    beam: int = 1,
    max_sites: int = 8,
    least_gain: float = 1e-3,
) -> SiteSearch:
    """Grow sets of sites out of `candidates` until one joint transient patch recovers as much as `wanted`.

    The recovered fraction is Σ (ΔL_patched − ΔL_target) / Σ (ΔL_source − ΔL_target) over the steps of the texts at
    which the unpatched models predict different tokens. Each round measures every kept set with every candidate, and
    keeps the best `beam` of those that gain at least `least_gain` on the set they came from; beam 1 is the greedy
    search, and a wider beam always keeps its set, so it does no worse. It ends when a set reaches `wanted`, has
    `max_sites`, or none gains. Neither search is exhaustive: the size of what it finds is an upper bound on that of the
    smallest set. One late `resid_post` recovers nearly everything; use candidates of attn_out, mlp_out and head.

    Equal sets are ordered by their sites. Raises UsageError without candidates, or where the models agree throughout.
    """
    if beam < 1 or max_sites < 1:
        raise UsageError(f"got a beam of {beam} and at most {max_sites} sites, expected at least 1 of each")
    places = sorted({site for patch in candidates for site in patch.sites})
    if not places:
        raise UsageError("got no candidate sites, expected at least one; take the top sites of attribution patching")
    kept: dict[_Set, float] = {(): 0.0}
    greedy: _Set = ()
    best: tuple[_Set, float] = (), 0.0
    rows: list[tuple[int, int, str, int, float]] = []
    for number in tqdm(range(1, max_sites + 1), desc=f"search of {len(places)} sites", unit="round", leave=False):
        grown = {parent: _grown(parent, places) for parent in kept}
        measured = _recovered(pair, texts, run, sorted({sites for some in grown.values() for sites in some}))
        gaining = {
            sites for parent, some in grown.items() for sites in some if measured[sites] - kept[parent] >= least_gain
        }
        if not gaining:
            break
        ranked = sorted(gaining, key=lambda sites: (-measured[sites], sites))
        # What the greedy search would keep: the best that comes of its own last set.
        line = (s for s in ranked if s in grown.get(greedy, ()) and measured[s] - kept[greedy] >= least_gain)
        greedy = next(line, greedy)
        kept = {sites: measured[sites] for i, sites in enumerate(ranked) if i < beam or sites == greedy}
        for rank, (sites, fraction) in enumerate(kept.items(), start=1):
            rows.append((number, rank, Patch(sites).name, len(sites), fraction))
        best = max([best, *kept.items()], key=lambda found: found[1])
        if best[1] >= wanted:
            break
    found, recovered = best
    rounds = pl.DataFrame(rows, schema=_ROUNDS, orient="row")
    return SiteSearch(rounds, Patch(found) if found else None, recovered, bool(found) and recovered >= wanted)


def _recovered(pair: ModelPair, texts: Sequence[ForcedText], run: PatchRun, sets: Sequence[_Set]) -> dict[_Set, float]:
    """The exact recovered fraction of each set, moved together, over all texts."""
    along = exact_effects(pair, texts, run, [Patch(sites) for sites in sets])
    fractions = {sites: recovered(of_text[i] for of_text in along).fraction for i, sites in enumerate(sets)}
    if None in fractions.values():
        raise UsageError(
            "the models predict the same token at all steps of the texts, so there is nothing to recover; "
            "give other texts or longer ones"
        )
    return {sites: fraction for sites, fraction in fractions.items() if fraction is not None}


def exact_effects(
    pair: ModelPair, texts: Sequence[ForcedText], run: PatchRun, patches: Sequence[Patch]
) -> list[list[Trajectory]]:
    """For each text what patches do at the steps at which the models disagree."""
    scheduled = [Patch(patch.sites, DISAGREE) for patch in patches]
    return [score_tokens(pair, given.prompt, given.text, scheduled, run) for given in texts]


def _grown(sites: _Set, places: Sequence[Site]) -> list[_Set]:
    """The set with each of the places, but for those where one site would leave nothing of another."""
    return [
        tuple(sorted((*sites, more)))
        for more in places
        if not any(more == site or _hides(more, site) or _hides(site, more) for site in sites)
    ]


def _hides(site: Site, other: Site) -> bool:
    """Whether moving a site overwrites all that moving the other one did: such a pair is the first alone."""
    if site.component == "resid_post":
        return other.layer <= site.layer
    within = {"resid_mid": ("attn_out", "head"), "attn_out": ("head",)}.get(site.component, ())
    if other.layer == site.layer:
        return other.component in within
    return site.component == "resid_mid" and other.layer < site.layer
