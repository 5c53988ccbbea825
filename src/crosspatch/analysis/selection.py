"""Choose the patches of a sweep: the top sites of attribution patching, or the set of sites that a search finds.

Both use the text that the target generates from each prompt, and measure exact effects along it. These effects are
biased upwards on the texts by which the sites were chosen, so both are cross-fitted: sites are chosen on each half of
the texts and measured on the other half.

The best single sites need not be the best set, since several sites may carry the same information. So the search grows
sets one site at a time and measures each set exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from tqdm import tqdm

from crosspatch.analysis.attribution import Attribution, attribution_patching
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.config import COMPONENTS, Component
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.models.generation import continue_prompts
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.measures import Recovered, in_half
from crosspatch.patching.patches import Patch, Schedule
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.sweep import Answers
from crosspatch.patching.trajectory import PatchRun, Trajectory, recovered
from crosspatch.tables import ATTRIBUTION, SEARCH

# The default components are parts of blocks: a late resid_post recovers nearly everything, so a search would end there.
SEARCHED: tuple[Component, ...] = ("attn_out", "mlp_out", "head")
# A search uses this many top sites of attribution patching as candidates.
CANDIDATES = 16
# `ig_steps` of attribution patching: one point costs little, and ranks sites as well in the repair direction as in the
# corrupt one.
IG_STEPS = 1

_ROUNDS = {"round": pl.Int32, "rank": pl.Int32, "patch": pl.String, "sites": pl.Int32, "recovered_fraction": pl.Float64}
# Sorted sites that are patched together.
_Set = tuple[Site, ...]


@dataclass(frozen=True)
class Selection:
    """The chosen patches, a table of their estimated and exact effects, and notes to log, one line each."""

    patches: list[Patch]
    table: pl.DataFrame
    notes: list[str]


@dataclass(frozen=True)
class SiteSearch:
    """The sets that a search kept in each round, and the set that it found.

    `rounds` has the columns `round` (from 1), `rank` in the round (from 1), `patch`, its number of `sites`, and the
    exact `recovered_fraction`. `found` is the smallest set that reached the wanted fraction, or else the set with the
    largest fraction; None if no site recovered anything. Its size is an upper bound: a smaller set that the search did
    not measure may reach the fraction too.
    """

    rounds: pl.DataFrame
    found: Patch | None
    recovered_fraction: float
    reached: bool


def select_patches(
    pair: ModelPair,
    prompts: Mapping[str, Sequence[int]],
    run: PatchRun,
    answers: Answers,
    components: Sequence[Component] | None,
    *,
    attribution: int = 0,
    target_fraction: float | None = None,
    beam: int = 1,
) -> Selection:
    """Choose the `attribution` top sites by gradients, or the smallest set that recovers `target_fraction`.

    Effects are computed along the target's own texts for `prompts` (token ids by prompt_id), which are taken from
    `answers` or generated. Raises UsageError if both `attribution` and `target_fraction` are given, or neither.
    """
    check_choice(attribution, target_fraction)
    texts = target_texts(pair, prompts, run, answers)
    if target_fraction is None:
        return best_by_attribution(pair, texts, run, components, attribution)
    return smallest_set(pair, texts, run, components, target_fraction, beam)


def check_choice(attribution: int, target_fraction: float | None) -> None:
    """Raise UsageError if both `attribution` and `target_fraction` are given, or neither."""
    if bool(attribution) == (target_fraction is not None):
        raise UsageError("give either attribution (number of sites to patch) or target_fraction (fraction to recover)")


def target_texts(
    pair: ModelPair, prompts: Mapping[str, Sequence[int]], run: PatchRun, answers: Answers
) -> list[ForcedText]:
    """Return each prompt with the target's own text, which is generated if it is not in `answers`."""
    target, _ = pair.target_and_source(run.direction)
    name_of_target, _ = run.target_and_source
    texts = []
    for name, ids in prompts.items():
        known = answers.get(name, {}).get(name_of_target)
        if known is not None:
            text = pair.prompts.encode_completion(known)
        else:
            text = continue_prompts(target, pair.prompts, [ids], run.max_new_tokens, pair.stop_tokens)[0].tokens
        texts.append(ForcedText(ids, text))
    return texts


def best_by_attribution(
    pair: ModelPair, texts: Sequence[ForcedText], run: PatchRun, components: Sequence[Component] | None, count: int
) -> Selection:
    """Choose the `count` top sites of attribution patching in some components (None: all); measure them exactly."""
    found = attribution_patching(pair, texts, run, components=components or COMPONENTS, ig_steps=IG_STEPS)
    ranked = found.ranking().head(count)
    patches = [Patch.parse(name) for name in ranked["patch"]]
    exact = _exact_effects(pair, texts, run, patches)
    held_out = _held_out(pair, texts, run, found, lambda half, _: half.top(count))
    ranked = ranked.rename({"recovered_fraction": "estimate"}).drop("mean_size")
    table = ATTRIBUTION.frame(
        {
            **row,
            "exact": recovered(of_text[i] for of_text in exact).fraction,
            "held_out": held_out and held_out[i],
        }
        for i, row in enumerate(ranked.iter_rows(named=True))
    )
    notes = [
        f"attribution patching: {found.cells['patch'].n_unique()} sites ranked along {len(texts)} texts, the best "
        f"{len(patches)} measured exactly"
    ]
    for row in found.rank_correlation(exact).iter_rows(named=True):
        cells, sites = ("undefined" if row[of] is None else f"{row[of]:.2f}" for of in ("cells", "sites"))
        notes.append(
            f"attribution patching: rank correlation with the exact effects, {row['component']}: {cells} over "
            f"{row['n_cells']} cells, {sites} over {row['n_sites']} sites"
        )
    return Selection(patches, table, notes)


def smallest_set(
    pair: ModelPair,
    texts: Sequence[ForcedText],
    run: PatchRun,
    components: Sequence[Component] | None,
    target_fraction: float,
    beam: int,
) -> Selection:
    """Search the top sites of attribution patching for the smallest set whose joint patch recovers `target_fraction`.

    Raises CrosspatchError if no site recovers anything.
    """
    estimated = attribution_patching(pair, texts, run, components=components or SEARCHED, ig_steps=IG_STEPS)
    candidates = estimated.top(CANDIDATES)
    found = search_sites(pair, texts, candidates, run, wanted=target_fraction, beam=beam)
    if found.found is None:
        raise CrosspatchError("no candidate site recovers anything along these texts; try other components or texts")

    def chosen(half: Attribution, some: Sequence[ForcedText]) -> list[Patch]:
        of_half = search_sites(pair, some, half.top(CANDIDATES), run, wanted=target_fraction, beam=beam).found
        return [] if of_half is None else [of_half]

    held_out = _held_out(pair, texts, run, estimated, chosen)
    verdict = "reaches" if found.reached else "is the nearest found to"
    notes = [
        f"search: {found.found.name} recovers {found.recovered_fraction:.2f} and {verdict} {target_fraction:g}; an "
        f"upper bound on the smallest set of these {len(candidates)} candidates",
        "search: too few texts to test a set on texts that did not choose it"
        if held_out is None
        else f"search: sets chosen on one half of the texts recover {held_out[0]:.2f} on the other half",
    ]
    rounds = found.rounds.with_columns(
        held_out=pl.when(patch=found.found.name).then(pl.lit(held_out and held_out[0], pl.Float64))
    )
    return Selection([found.found], SEARCH.frame(rounds.iter_rows(named=True)), notes)


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
    """Search `candidates` for a set of sites whose joint transient patch recovers the `wanted` fraction (beam search).

    The recovered fraction is Σ (ΔL_patched − ΔL_target) / Σ (ΔL_source − ΔL_target) over the steps of the texts at
    which the unpatched models predict different tokens. Each round adds every candidate to every kept set, and keeps
    the best `beam` of the sets that gain at least `least_gain`. Beam 1 is greedy search; a wider beam always keeps the
    greedy set too, so its result is never worse. The search ends when a set reaches `wanted` or has `max_sites`, or
    when no set gains; it is not exhaustive. Use candidates of attn_out, mlp_out and head, since one late `resid_post`
    recovers nearly everything.

    Ties are broken by the order of sites. Raises UsageError without candidates, or if the models never disagree.
    """
    if beam < 1 or max_sites < 1:
        raise UsageError(f"got a beam of {beam} and at most {max_sites} sites, expected at least 1 of each")
    sites = sorted({site for patch in candidates for site in patch.sites})
    if not sites:
        raise UsageError("got no candidate sites, expected at least one; take the top sites of attribution patching")
    kept: dict[_Set, float] = {(): 0.0}
    greedy: _Set = ()
    best: tuple[_Set, float] = (), 0.0
    rows: list[tuple[int, int, str, int, float]] = []
    for number in tqdm(range(1, max_sites + 1), desc=f"search of {len(sites)} sites", unit="round", leave=False):
        grown = {parent: _grown(parent, sites) for parent in kept}
        measured = _recovered(pair, texts, run, sorted({one for some in grown.values() for one in some}))
        gaining = {one for parent, some in grown.items() for one in some if measured[one] - kept[parent] >= least_gain}
        if not gaining:
            break
        ranked = sorted(gaining, key=lambda one: (-measured[one], one))
        # The set that greedy search would keep: the best extension of its last set.
        line = (one for one in ranked if one in grown.get(greedy, ()) and measured[one] - kept[greedy] >= least_gain)
        greedy = next(line, greedy)
        kept = {one: measured[one] for i, one in enumerate(ranked) if i < beam or one == greedy}
        for rank, (one, fraction) in enumerate(kept.items(), start=1):
            rows.append((number, rank, Patch(one).name, len(one), fraction))
        best = max([best, *kept.items()], key=lambda found: found[1])
        if best[1] >= wanted:
            break
    found, fraction = best
    rounds = pl.DataFrame(rows, schema=_ROUNDS, orient="row")
    return SiteSearch(rounds, Patch(found) if found else None, fraction, bool(found) and fraction >= wanted)


def _grown(sites: _Set, candidates: Sequence[Site]) -> list[_Set]:
    """Return the set extended by each candidate, except where one site of the new set would overwrite another."""
    return [
        tuple(sorted((*sites, more)))
        for more in candidates
        if not any(more == site or _overwrites(more, site) or _overwrites(site, more) for site in sites)
    ]


def _overwrites(site: Site, other: Site) -> bool:
    """Whether patching `site` overwrites all effects of patching `other`, so that `other` changes nothing."""
    if site.component == "resid_post":
        return other.layer <= site.layer
    within = {"resid_mid": ("attn_out", "head"), "attn_out": ("head",)}.get(site.component, ())
    if other.layer == site.layer:
        return other.component in within
    return site.component == "resid_mid" and other.layer < site.layer


def _recovered(pair: ModelPair, texts: Sequence[ForcedText], run: PatchRun, sets: Sequence[_Set]) -> dict[_Set, float]:
    """Measure the exact recovered fraction of each set, patched together, over all texts."""
    exact = _exact_effects(pair, texts, run, [Patch(sites) for sites in sets])
    fractions = {sites: recovered(of_text[i] for of_text in exact).fraction for i, sites in enumerate(sets)}
    if None in fractions.values():
        raise UsageError(
            "the models predict the same token at all steps of the texts, so there is nothing to recover; "
            "give other texts or longer ones"
        )
    return {sites: fraction for sites, fraction in fractions.items() if fraction is not None}


def _exact_effects(
    pair: ModelPair, texts: Sequence[ForcedText], run: PatchRun, patches: Sequence[Patch]
) -> list[list[Trajectory]]:
    """Score patches along each text; patches are applied only at the steps at which the models disagree."""
    scheduled = [Patch(patch.sites, Schedule(disagree=True)) for patch in patches]
    return [score_tokens(pair, given.prompt, given.text, scheduled, run) for given in texts]


def _held_out(
    pair: ModelPair,
    texts: Sequence[ForcedText],
    run: PatchRun,
    found: Attribution,
    choose: Callable[[Attribution, Sequence[ForcedText]], list[Patch]],
) -> list[float] | None:
    """Choose patches on each half of the texts, and return their recovered fraction on the other half, by rank.

    Returns None if the models never disagree in one half of the texts, or no patch is chosen on a half.
    """
    halves = [np.flatnonzero(in_half(len(texts), half)).tolist() for half in (0, 1)]
    elsewhere: list[list[Recovered]] = []
    for own, other in (halves, halves[::-1]):
        chooses, tested = found.of_texts(own), found.of_texts(other)
        if chooses.agrees or tested.agrees:
            return None
        patches = choose(chooses, [texts[i] for i in own])
        exact = _exact_effects(pair, [texts[i] for i in other], run, patches)
        elsewhere.append([recovered(of_text[i] for of_text in exact) for i in range(len(patches))])
    fractions = [(one + other).fraction for one, other in zip(*elsewhere, strict=False)]
    return [fraction for fraction in fractions if fraction is not None] or None
