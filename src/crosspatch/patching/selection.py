"""Which patches are worth a sweep of their own: the best of a screen, or the set that a search finds.

Both look along the target's own text after each prompt, and both end with exact measurements there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from crosspatch.behaviour.answers import continue_prompts
from crosspatch.config import COMPONENTS, Component
from crosspatch.errors import CrosspatchError
from crosspatch.frames import SCREEN, SEARCH
from crosspatch.models.pair import ModelPair
from crosspatch.patching.given_text import GivenText
from crosspatch.patching.patches import Patch
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.screen import Screen, screen
from crosspatch.patching.site_search import DISAGREE, search_sites
from crosspatch.patching.trajectory import PatchRun, Trajectory

# Parts of blocks: a late resid_post carries nearly everything, and would be found each time.
SEARCHED: tuple[Component, ...] = ("attn_out", "mlp_out", "head")
# Sites that a search tries in each round: the best of the screen.
CANDIDATES = 16
# Points between the models' streams at which a screen takes gradients: one costs little, and ranks as well in the
# repair direction as in the other.
INTEGRATED = 1


@dataclass(frozen=True)
class Selection:
    """The chosen patches, the table that says why, and what a person should know of it, a line each."""

    patches: list[Patch]
    table: pl.DataFrame
    notes: list[str]


def target_texts(
    pair: ModelPair, prompts: Mapping[str, Sequence[int]], run: PatchRun, known: Mapping[str, str]
) -> list[GivenText]:
    """Each prompt with the target's own text after it; `known` has those that are there, by prompt_id."""
    target, _ = pair.oriented(run.direction)
    texts = []
    for name, ids in prompts.items():
        if name in known:
            text = pair.prompts.encode_completion(known[name])
        else:
            text = continue_prompts(target, pair.prompts, [ids], run.max_new_tokens, pair.stop_tokens)[0].tokens
        texts.append(GivenText(ids, text))
    return texts


def best_of_screen(
    pair: ModelPair, texts: Sequence[GivenText], run: PatchRun, components: Sequence[Component] | None, count: int
) -> Selection:
    """The `count` sites of all components, or of these, that a screen ranks highest; measured exactly beside it."""
    found = screen(pair, texts, run, components=components or COMPONENTS, integrated=INTEGRATED)
    patches = found.top(count)
    exact = _exact(pair, texts, run, patches)
    ranked = found.ranking().with_columns(pl.col("transfer").alias("estimate")).head(count)
    table = SCREEN.frame(
        {**row, "exact": _transfer(found, [of_text[i] for of_text in exact])}
        for i, row in enumerate(ranked.select("patch", "component", "layer", "head", "estimate").iter_rows(named=True))
    )
    ranked_sites = found.cells["patch"].n_unique()
    notes = [f"screen: {ranked_sites} sites ranked along {len(texts)} texts, the best {len(patches)} measured exactly"]
    for row in found.rank_correlation(exact).iter_rows(named=True):
        notes.append(
            f"screen: rank correlation with the exact effects, {row['component']}: {_shown(row['cells'])} over "
            f"{row['n_cells']} cells, {_shown(row['sites'])} over {row['n_sites']} sites"
        )
    return Selection(patches, table, notes)


def smallest_set(
    pair: ModelPair,
    texts: Sequence[GivenText],
    run: PatchRun,
    components: Sequence[Component] | None,
    reach: float,
    beam: int,
) -> Selection:
    """The smallest set of sites found whose joint patch transfers `reach`, out of a screen's best candidates.

    Raises CrosspatchError where no site transfers anything.
    """
    candidates = screen(pair, texts, run, components=components or SEARCHED, integrated=INTEGRATED).top(CANDIDATES)
    found = search_sites(pair, texts, candidates, run, wanted=reach, beam=beam)
    if found.found is None:
        raise CrosspatchError("no candidate site transfers anything along these texts; try other components or texts")
    verdict = "reaches" if found.reached else "is the nearest found to"
    note = (
        f"search: {found.found.name} transfers {found.transfer:.2f} and {verdict} {reach:g}; an upper bound on the "
        f"smallest set of these {len(candidates)} candidates"
    )
    return Selection([found.found], SEARCH.frame(found.rounds.iter_rows(named=True)), [note])


def _exact(
    pair: ModelPair, texts: Sequence[GivenText], run: PatchRun, patches: Sequence[Patch]
) -> list[list[Trajectory]]:
    scheduled = [Patch(patch.sites, DISAGREE) for patch in patches]
    return [score_tokens(pair, given.prompt, given.text, scheduled, run) for given in texts]


def _transfer(found: Screen, trajectories: Sequence[Trajectory]) -> float:
    """Σ (ΔL_patched − ΔL_target) / Σ (ΔL_source − ΔL_target) where the models disagree, over all texts."""
    target = "delta_clean" if found.direction == "corrupt" else "delta_corrupted"
    steps = [step for trajectory in trajectories for step in trajectory.steps if step["applied"]]
    return sum(step["delta_patched"] - step[target] for step in steps) / found.gap


def _shown(correlation: float | None) -> str:
    return "undefined" if correlation is None else f"{correlation:.2f}"
