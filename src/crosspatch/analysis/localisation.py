"""Localisation of a fine-tune: the effect of every block, attention, MLP and head along a text after each prompt.

Gradients estimate all sites. Every whole part of a block, and the heads with the largest estimates along all texts or
along half of them, are then patched exactly, each alone, at the steps at which the models predict different tokens.
Each site is patched at two sets of positions: at the step alone (a transient patch, and a random vector of the same
norm), and at every position of prompt and text. The first shows where the effect of the fine-tune reaches the deciding
position. The second shows which part causes it: at a single step, a change at earlier positions shows only where later
parts read it. The tables have sums by prompt, from which `statistics` computes recovered fractions with intervals.

A head's activation is its part of the input of the output projection: a change of the projection's own weights shows in
attn_out, not in any head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
import torch

from crosspatch.analysis.all_positions import AllPositions
from crosspatch.analysis.attribution import attribution_patching
from crosspatch.analysis.controls import ControlReader, PatchedText
from crosspatch.analysis.selection import IG_STEPS
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.config import Component
from crosspatch.models.pair import ModelPair
from crosspatch.patching.measures import in_half, recovered_fraction
from crosspatch.patching.patches import Patch
from crosspatch.patching.trajectory import PatchRun
from crosspatch.tables import LOCALISATION

# All sites of these components are measured: each block has one of each.
WHOLE: tuple[Component, ...] = ("resid_post", "attn_out", "mlp_out")
LOCALISED: tuple[Component, ...] = (*WHOLE, "head")
POSITIONS = ("current", "all")


def localise(
    pair: ModelPair,
    texts: Mapping[str, ForcedText],
    run: PatchRun,
    *,
    top: int = 12,
    seed: int = 0,
) -> pl.DataFrame:
    """Estimate and measure site effects along texts by prompt_id, at the same sites in all (see tables.LOCALISATION).

    `seed` seeds the random directions. Raises UsageError for persistent patches.
    """
    estimated = {name: estimate_sites(pair, name, given, run) for name, given in texts.items()}
    patches = sites_to_measure(pl.concat([LOCALISATION.frame(), *estimated.values()]), top)
    measured = []
    for i, (name, given) in enumerate(texts.items()):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
        measured.append(measure_sites(pair, estimated[name], given, run, patches, generator))
    return pl.concat([LOCALISATION.frame(), *measured])


@torch.inference_mode(False)
@torch.no_grad()
def estimate_sites(pair: ModelPair, prompt_id: str, given: ForcedText, run: PatchRun) -> pl.DataFrame:
    """The estimated effect of every site at both `positions` after one prompt; no rows where the models never disagree.

    `patched` and `random` are null, since nothing is measured yet. Raises UsageError as `attribution_patching` does.
    """
    found = attribution_patching(pair, [given], run, components=LOCALISED, ig_steps=IG_STEPS)
    steps = found.steps.filter("disagree")["step"].to_list()
    if not steps:
        return LOCALISATION.frame()
    sums = found.cells.group_by("patch", "component", "layer", "head", maintain_order=True).agg(
        estimate=pl.col("effect").cast(pl.Float64).sum()
    )
    sites = [Patch.parse(name).sites[0] for name in sums["patch"]]
    throughout = AllPositions(pair, given, steps, sites, run).estimates(sites)
    fixed = {"prompt_id": prompt_id, "direction": run.direction, "gap": found.gap, "steps": steps}
    unmeasured = {"patched": None, "random": None}
    rows = [{**row, **fixed, **unmeasured, "positions": "current"} for row in sums.iter_rows(named=True)]
    rows += [
        {**row, "positions": "all", "estimate": throughout[site]} for row, site in zip(list(rows), sites, strict=True)
    ]
    return LOCALISATION.frame(rows)


def sites_to_measure(estimated: pl.DataFrame, top: int) -> list[Patch]:
    """Every whole part of a block, and at both `positions` the `top` heads by their estimated recovered fraction.

    The top heads of all prompts, and of each half of them, which are tested on the other half (`in_half`).
    """
    prompts = estimated["prompt_id"].unique(maintain_order=True)
    best = []
    for some in (prompts, *(prompts.filter(in_half(len(prompts), half)) for half in (0, 1))):
        # As a fraction of the gap, which is negative in the repair direction.
        heads = (
            estimated.filter(pl.col("prompt_id").is_in(some.implode()), component="head")
            .group_by("positions", "patch", maintain_order=True)
            .agg(estimate=recovered_fraction(pl.col("estimate").sum(), pl.col("gap").sum()))
            .sort("estimate", descending=True, maintain_order=True)
        )
        best += [name for positions in POSITIONS for name in heads.filter(positions=positions)["patch"].head(top)]
    whole = estimated.filter(pl.col("component") != "head")["patch"].unique(maintain_order=True)
    return [Patch.parse(name) for name in dict.fromkeys((*whole, *best))]


@torch.inference_mode(False)
@torch.no_grad()
def measure_sites(
    pair: ModelPair,
    estimated: pl.DataFrame,
    given: ForcedText,
    run: PatchRun,
    patches: Sequence[Patch],
    generator: torch.Generator,
) -> pl.DataFrame:
    """The rows of `estimated` for one prompt, with the exact effects of some patches."""
    if estimated.is_empty() or not patches:
        return estimated
    steps = estimated["steps"][0].to_list()
    at_step = _at_steps(pair, given, run, patches, steps, generator)
    sites = [site for patch in patches for site in patch.sites]
    throughout = AllPositions(pair, given, steps, sites, run).effects(patches)
    measured = {("current", name): sums for name, sums in at_step.items()}
    measured |= {("all", name): {"patched": moved} for name, moved in throughout.items()}
    return LOCALISATION.frame(
        {**row, **measured.get((row["positions"], row["patch"]), {})} for row in estimated.iter_rows(named=True)
    )


def _at_steps(
    pair: ModelPair,
    given: ForcedText,
    run: PatchRun,
    patches: Sequence[Patch],
    steps: Sequence[int],
    generator: torch.Generator,
) -> dict[str, dict[str, float]]:
    """The summed effects of each patch at the current position, and of random vectors at the same sites."""
    reader = ControlReader(pair, PatchedText(given, dict.fromkeys(patches, steps)), run)
    moves = {"patched": reader.source_activations, "random": reader.moved("random", generator)}
    sums: dict[str, dict[str, float]] = {patch.name: dict.fromkeys(moves, 0.0) for patch in patches}
    for name, patch, _, step in reader.score(moves):
        sums[patch.name][name] += step.moved
    return sums
