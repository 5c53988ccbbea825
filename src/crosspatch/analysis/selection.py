"""Choose the patches of a sweep: the top sites of attribution patching, or the set of sites that a search finds.

Both use the target's own text after each prompt, and both measure the exact effects there. These are biased upwards on
the texts that were used to choose, so both are cross-fitted: sites are chosen on each half of the texts and measured
on the other half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from crosspatch.analysis.attribution import Attribution, attribution_patching
from crosspatch.analysis.site_search import exact_effects, search_sites
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.config import COMPONENTS, Component
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.models.generation import continue_prompts
from crosspatch.models.pair import ModelPair
from crosspatch.patching.measures import Recovered, in_half
from crosspatch.patching.patches import Patch
from crosspatch.patching.sweep import Answers
from crosspatch.patching.trajectory import PatchRun, recovered
from crosspatch.tables import ATTRIBUTION, SEARCH

# Parts of blocks: a late resid_post recovers nearly everything, so every search would end there.
SEARCHED: tuple[Component, ...] = ("attn_out", "mlp_out", "head")
# Sites that a search tries in each round: the top ones of attribution patching.
CANDIDATES = 16
# Points between the models' streams at which attribution patching takes gradients: one costs little, and ranks as well
# in the repair direction as in the other.
IG_STEPS = 1


@dataclass(frozen=True)
class Selection:
    """The chosen patches, the table of their estimates and effects, and notes to log, a line each."""

    patches: list[Patch]
    table: pl.DataFrame
    notes: list[str]


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
    """The `attribution` sites that rank highest by gradients, or the smallest set that recovers `target_fraction`.

    Looked for along the target's own texts after prompts (token ids by prompt_id); `answers` has those that are there.
    Raises UsageError where both ways to choose are asked for, or none.
    """
    if bool(attribution) == (target_fraction is not None):
        raise UsageError("give attribution, how many sites to patch, or target_fraction, how much to recover")
    texts = target_texts(pair, prompts, run, answers)
    if target_fraction is None:
        return best_by_attribution(pair, texts, run, components, attribution)
    return smallest_set(pair, texts, run, components, target_fraction, beam)


def target_texts(
    pair: ModelPair, prompts: Mapping[str, Sequence[int]], run: PatchRun, answers: Answers
) -> list[ForcedText]:
    """Each prompt with the target's own text after it, which is written now where `answers` does not have it."""
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
    """The `count` top sites of attribution patching, of all components or of these, with their exact effects."""
    found = attribution_patching(pair, texts, run, components=components or COMPONENTS, ig_steps=IG_STEPS)
    patches = found.top(count)
    exact = exact_effects(pair, texts, run, patches)
    held_out = _held_out(pair, texts, run, found, lambda half, _: half.top(count))
    ranked = found.ranking().with_columns(pl.col("recovered_fraction").alias("estimate")).head(count)
    table = ATTRIBUTION.frame(
        {
            **row,
            "exact": recovered(of_text[i] for of_text in exact).fraction,
            "held_out": held_out and held_out[i],
        }
        for i, row in enumerate(ranked.select("patch", "component", "layer", "head", "estimate").iter_rows(named=True))
    )
    ranked_sites = found.cells["patch"].n_unique()
    notes = [
        f"attribution patching: {ranked_sites} sites ranked along {len(texts)} texts, the best {len(patches)} "
        "measured exactly"
    ]
    for row in found.rank_correlation(exact).iter_rows(named=True):
        notes.append(
            f"attribution patching: rank correlation with the exact effects, {row['component']}: "
            f"{_shown(row['cells'])} over {row['n_cells']} cells, {_shown(row['sites'])} over {row['n_sites']} sites"
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
    """The smallest set whose joint patch recovers `target_fraction`, of the top sites of attribution patching.

    Raises CrosspatchError where no site recovers anything.
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
        else f"search: sets that half of the texts choose recover {held_out[0]:.2f} on the other half",
    ]
    rounds = found.rounds.with_columns(
        held_out=pl.when(patch=found.found.name).then(pl.lit(held_out and held_out[0], pl.Float64))
    )
    return Selection([found.found], SEARCH.frame(rounds.iter_rows(named=True)), notes)


def _held_out(
    pair: ModelPair,
    texts: Sequence[ForcedText],
    run: PatchRun,
    found: Attribution,
    choose: Callable[[Attribution, Sequence[ForcedText]], list[Patch]],
) -> list[float] | None:
    """The recovered fraction, rank by rank, of the patches that each half of the texts chooses, on the other half.

    None where a half has no step at which the models disagree, or nothing to choose.
    """
    halves = [np.flatnonzero(in_half(len(texts), half)).tolist() for half in (0, 1)]
    elsewhere: list[list[Recovered]] = []
    for own, other in (halves, halves[::-1]):
        chooses, tested = found.of_texts(own), found.of_texts(other)
        if chooses.agrees or tested.agrees:
            return None
        patches = choose(chooses, [texts[i] for i in own])
        exact = exact_effects(pair, [texts[i] for i in other], run, patches)
        elsewhere.append([recovered(of_text[i] for of_text in exact) for i in range(len(patches))])
    fractions = [(one + other).fraction for one, other in zip(*elsewhere, strict=False)]
    return [fraction for fraction in fractions if fraction is not None] or None


def _shown(correlation: float | None) -> str:
    return "undefined" if correlation is None else f"{correlation:.2f}"
