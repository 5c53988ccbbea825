"""Localisation of a fine-tune: the effect of every block, attention, MLP and head along a text for each prompt.

Gradients estimate the effects of all sites. All blocks, attentions and MLPs, and the heads with the largest estimates
(over all texts, or over one half of them), are then patched separately to measure their exact effects, at the steps at
which the models predict different tokens. Each site is patched at two sets of positions: only the current position (a
transient patch, with a random vector of the same norm as control), and every position of prompt and text. The first
measures where the effect of the fine-tune reaches the current position. The second measures which module causes it,
including through earlier positions. The tables have sums by prompt, from which `statistics` computes recovered
fractions with intervals.

A head's activation is its slice of the output projection's input: a change of the projection's weights affects
attn_out, but no head.
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

# All sites of these components are measured; each block has one site of each.
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
    """Estimate and measure site effects along texts (by prompt_id), with the same sites in all: tables.LOCALISATION.

    `top` is the number of heads from each ranking (see `sites_to_measure`); `seed` seeds the random directions. Raises
    UsageError for persistent patches.
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
    """Estimate the effect of every site at both `positions` for one prompt; no rows if the models never disagree.

    `patched` and `random` are null, since nothing is measured yet. Raises UsageError like `attribution_patching`.
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
    """Return all blocks, attentions and MLPs, and for both `positions` the `top` heads by estimated recovered fraction.

    The top heads are those over all prompts, and those over each half of the prompts, which are tested on the other
    half (`in_half`).
    """
    prompts = estimated["prompt_id"].unique(maintain_order=True)
    best = []
    for some in (prompts, *(prompts.filter(in_half(len(prompts), half)) for half in (0, 1))):
        # Divide by the gap, which is negative in the repair direction, so that larger is always better.
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
    """Fill in the exact effects of some patches in the rows of `estimated`, for one prompt."""
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
    """Measure each patch's effects at the current position, and those of random vectors, summed over the steps."""
    reader = ControlReader(pair, PatchedText(given, dict.fromkeys(patches, steps)), run)
    moves = {"patched": reader.source_activations, "random": reader.moved("random", generator)}
    sums: dict[str, dict[str, float]] = {patch.name: {} for patch in patches}
    for (name, patch), scored in reader.score(moves).items():
        sums[patch.name][name] = float(scored.moved.sum())
    return sums
