"""Attribution patching: estimate the effect of every transient patch along given texts, in a few passes.

A patch's effect on a step is ΔL_patched − ΔL_target. To first order it is the gradient of ΔL at the site times the
change of the activation, source minus target. A transient patch attends to the target's own keys and values, and later
positions do not read the change. So keys and values are constants, and one backward pass gives the gradients of all
steps at all sites.

Estimates rank sites; measure the top sites with `score_tokens`. Only steps at which the models predict different tokens
are computed: at other steps ΔL is 0 under every patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from crosspatch.analysis.teacher_forcing import ForcedText, PairReader, difference
from crosspatch.config import Component
from crosspatch.errors import UsageError
from crosspatch.models.components import find_components
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.measures import recovered_fraction
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.scores import Predictions
from crosspatch.patching.trajectory import PatchRun, Trajectory

# Maximum number of positions in one backward pass, which keeps their activations in memory.
POSITIONS_AT_ONCE = 128

_SITE = {"patch": pl.String, "component": pl.String, "layer": pl.Int32, "head": pl.Int32}
_STEPS = {
    "step": pl.Int32,
    "target_token_id": pl.Int32,
    "source_token_id": pl.Int32,
    "delta_target": pl.Float32,
    "delta_source": pl.Float32,
    "disagree": pl.Boolean,
}


@dataclass(frozen=True)
class Attribution:
    """Estimated effects of patching each site separately, in logits.

    `cells` has a row for each site and step: `text` (its index), `patch`, `component`, `layer`, `head`, `step`,
    `effect` (ΔL_patched − ΔL_target; 0 if the models agree) and `disagree` (whether the models' top-1 tokens differ).
    `steps` has the unpatched models' tokens and ΔLs at each step.
    """

    cells: pl.DataFrame
    steps: pl.DataFrame

    def ranking(self) -> pl.DataFrame:
        """Rank sites by their estimated `recovered_fraction`, Σ effect / Σ (ΔL_source − ΔL_target), highest first.

        Sums are over all steps at which the models disagree: in either direction 0 is the target's behaviour and 1 the
        source's. `mean_size` is the mean of |effect|, in logits. Raises UsageError if the models never disagree.
        """
        effect = pl.col("effect")
        ranked = (
            self.cells.filter("disagree")
            .group_by(*_SITE, maintain_order=True)
            .agg(recovered_fraction=recovered_fraction(effect.sum(), self.gap), mean_size=effect.abs().mean())
        )
        return ranked.sort("recovered_fraction", descending=True, maintain_order=True)

    def top(self, count: int) -> list[Patch]:
        """Return patches of the `count` top sites."""
        return [Patch.parse(name) for name in self.ranking()["patch"].head(count)]

    def rank_correlation(self, exact: Sequence[Sequence[Trajectory]]) -> pl.DataFrame:
        """Compute Spearman's correlation of estimated and exact effects, for each component with exact effects.

        `exact` has the results of `score_tokens` for patches of single sites, for each text. `cells` is the correlation
        over all (site, step) cells at which the models disagree, `sites` the correlation of the sites' means; null if
        undefined. `n_cells` and `n_sites` are the numbers of cells and sites.
        """
        measured = pl.DataFrame(
            [
                (text, Patch(trajectory.patch.sites).name, i, moved)
                for text, trajectories in enumerate(exact)
                for trajectory in trajectories
                for i, moved in enumerate(trajectory.steps.moved.tolist())
            ],
            schema={"text": pl.Int32, "patch": pl.String, "step": pl.Int32, "exact": pl.Float64},
            orient="row",
        )
        cells = self.cells.filter("disagree").join(measured, on=["text", "patch", "step"])
        sites = cells.group_by(*_SITE, maintain_order=True).agg(pl.col("effect", "exact").mean())
        spearman = pl.corr("effect", "exact", method="spearman").fill_nan(None)
        of_cells = cells.group_by("component", maintain_order=True).agg(cells=spearman, n_cells=pl.len())
        of_sites = sites.group_by("component", maintain_order=True).agg(sites=spearman, n_sites=pl.len())
        return of_cells.join(of_sites, on="component", maintain_order="left")

    def of_texts(self, texts: Sequence[int]) -> Attribution:
        """Select the estimates along some of the texts, by the indices of the texts."""
        some = pl.col("text").is_in(list(texts))
        return Attribution(self.cells.filter(some), self.steps.filter(some))

    @property
    def agrees(self) -> bool:
        """Whether the models predict the same token at every step, so that sites cannot be ranked."""
        return not self.steps["disagree"].any()

    @property
    def gap(self) -> float:
        """Σ (ΔL_source − ΔL_target) in logits over the steps at which the models disagree; UsageError if none."""
        if self.agrees:
            raise UsageError(
                f"the models predict the same token at all {self.steps.height} steps, so there is nothing to "
                "recover; give other texts or longer ones"
            )
        scored = self.steps.filter("disagree")
        return float((scored["delta_source"] - scored["delta_target"]).sum())


def attribution_patching(
    pair: ModelPair,
    texts: Sequence[ForcedText],
    run: PatchRun,
    *,
    components: Sequence[Component] = get_args(Component),
    ig_steps: int = 0,
) -> Attribution:
    """Estimate the effect of patching each site of the components along some texts.

    Gradients are taken at the target's own activations. With `ig_steps`, gradients at resid_post and resid_mid are
    averaged over this many points between the target's and the source's residual stream, since a patch there replaces
    the whole stream; for parts of a block the average is less accurate, so it is not used. Each text costs two forward
    passes; the steps of disagreement cost two more, and a forward and backward pass for the gradients and for each
    point. Sites that a block does not have are skipped. Raises UsageError for persistent patches (which change earlier
    keys and values), for an empty prompt or text, and if no block has any of the components.
    """
    if run.persistence == "persistent":
        raise UsageError(
            "got persistent patches; attribution patching needs transient patches, which do not change earlier "
            "positions"
        )
    if ig_steps < 0:
        raise UsageError(f"got ig_steps {ig_steps}, expected 0 or more")
    if not texts:
        raise UsageError("got no text for attribution patching, expected at least one")
    if not all(given.prompt and given.text for given in texts):
        raise UsageError("got an empty prompt or text for attribution patching, expected at least one token of each")
    sites = [
        site
        for patch in patch_grid("all", pair.n_layers, components, n_heads=pair.n_heads)
        for site in patch.sites
        if all(find_components(model).has(site) for model in (pair.clean, pair.corrupted))
    ]
    if not sites:
        raise UsageError(
            f"no block of the models has {' or '.join(components) or 'a component'} to patch; use resid_post"
        )
    cells, steps = [], []
    # Leave the caller's inference mode, whose tensors cannot be part of a backward pass.
    with torch.inference_mode(False), torch.no_grad():
        for number, given in enumerate(tqdm(texts, desc="attribution patching", unit="text", leave=False)):
            reader = PairReader(pair, given, run)
            found = reader.predictions()
            effects = torch.zeros(len(sites), len(found.disagree))
            apart = found.disagree.nonzero().flatten().tolist()
            for start in range(0, len(apart), POSITIONS_AT_ONCE):
                some = apart[start : start + POSITIONS_AT_ONCE]
                y_clean, y_corrupt = (y[some] for y in found.compared)
                effects[:, some] = _effects(reader, sites, some, y_clean, y_corrupt, ig_steps)
            text = pl.lit(number, pl.Int32).alias("text")
            steps.append(_steps(found).select(text, pl.all()))
            cells.append(_cells(sites, steps[-1], effects).select(text, pl.all()))
    return Attribution(pl.concat(cells), pl.concat(steps))


def _steps(found: Predictions) -> pl.DataFrame:
    """Tabulate the unpatched models' predictions, one row per step."""
    columns = (found.y_target, found.y_source, found.delta_target, found.delta_source, found.disagree)
    values = range(len(found.disagree)), *(column.tolist() for column in columns)
    return pl.DataFrame(dict(zip(_STEPS, values, strict=True)), schema=_STEPS)


def _cells(sites: Sequence[Site], steps: pl.DataFrame, effects: Float[Tensor, "sites S"]) -> pl.DataFrame:
    """Tabulate the effects, one row per site and step."""
    rows = [(Patch((site,)).name, site.component, site.layer, site.head) for site in sites]
    return (
        pl.DataFrame(rows, schema=_SITE, orient="row")
        .join(steps.select("step", "disagree"), how="cross", maintain_order="left_right")
        .with_columns(effect=pl.Series(effects.flatten().numpy(), dtype=pl.Float32))
        .select(*_SITE, "step", "effect", "disagree")
    )


def _effects(
    reader: PairReader,
    sites: Sequence[Site],
    at: Sequence[int],
    y_clean: Int[Tensor, " U"],
    y_corrupt: Int[Tensor, " U"],
    ig_steps: int,
) -> Float[Tensor, "sites U"]:
    """Sum gradient × (source − target) over each site's width, at some steps."""
    posts = [Site(layer) for layer in range(reader.n_layers)]
    here, there = reader.activations(at, [*sites, *posts])
    moves = difference(here, there)
    effects = dict.fromkeys(sites, torch.zeros(len(at)))

    def add(some: Sequence[Site], share: float, streams: Mapping[Site, Tensor] | None = None) -> None:
        gradients = reader.target.gradients(at, y_clean, y_corrupt, some, streams)
        for site, gradient in zip(some, gradients, strict=True):
            effects[site] = effects[site] + share * (gradient.float() * moves[site].float()).sum(-1).cpu()

    along = [site for site in sites if ig_steps and site.component in ("resid_post", "resid_mid")]
    if own := [site for site in sites if site not in along]:
        add(own, 1.0)
    if along:
        for k in range(ig_steps):
            # The midpoint rule.
            add(along, 1 / ig_steps, {site: here[site] + (k + 0.5) / ig_steps * moves[site] for site in posts})
    return torch.stack([effects[site] for site in sites])
