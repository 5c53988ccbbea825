"""A gradient screen: what every transient patch would do along given texts, estimated in a few passes.

Attribution patching across two models. A patch's effect on a step is its ΔL less that of the unpatched target; to
first order it is the gradient of ΔL at the site times what the patch would change there, source less target. A
transient patch reads a past that is the target's own, and changes nothing that others read. So the past can be held
fixed, positions do not know of one another, and one backward pass gives the gradients of all steps at all sites.

It ranks; what comes out on top should be measured by `score_tokens`. Only steps at which the models want different
tokens are computed: at others ΔL is 0 whatever is patched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from crosspatch.config import Component, Direction
from crosspatch.errors import UsageError
from crosspatch.models.anatomy import Anatomy, anatomy
from crosspatch.models.hooks import Edit, reading
from crosspatch.models.linear import fast_linear
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.unembedding import unembed
from crosspatch.patching.patches import Patch
from crosspatch.patching.rounds import UNEMBED_AT_ONCE
from crosspatch.patching.trajectory import PatchRun, Trajectory
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Token
from crosspatch.patching.two_stream.passes import packed_pass

# Positions whose gradients are taken at once: a backward pass holds all that led to them.
POSITIONS_AT_ONCE = 128

_STEPS = {
    "text": pl.Int32,
    "step": pl.Int32,
    "clean_token_id": pl.Int32,
    "corrupted_token_id": pl.Int32,
    "delta_clean": pl.Float32,
    "delta_corrupted": pl.Float32,
    "disagree": pl.Boolean,
}
_PLACE = ("patch", "component", "layer", "head")


@dataclass(frozen=True)
class GivenText:
    """A text to screen along, and the prompt before it, as token ids; each token of the text is a step."""

    prompt: Sequence[int]
    text: Sequence[int]


@dataclass(frozen=True)
class Screen:
    """Estimated effects of patching each site alone, in logits.

    `cells` has a row for each site and step: `text` (its index), `patch`, `component`, `layer`, `head`, `step`,
    `effect` (ΔL of the patched target less ΔL of the target) and whether the models `disagree` there; where they do
    not the effect is 0. `steps` has the unpatched models' tokens and ΔLs at each step.
    """

    direction: Direction
    cells: pl.DataFrame
    steps: pl.DataFrame

    def ranking(self, components: Sequence[Component] | None = None) -> pl.DataFrame:
        """Sites from the most to the least estimated `transfer`: Σ effect / Σ (ΔL_source − ΔL_target).

        Sums go over all steps at which the models disagree: 0 is the target's behaviour, 1 the source's, whichever
        direction. `mean_size` is the mean of |effect|, in logits. Raises UsageError where no step disagrees.
        """
        apart = self.gap
        ranked = (
            self._scored(components)
            .group_by(_PLACE, maintain_order=True)
            .agg(transfer=pl.col("effect").sum() / apart, mean_size=pl.col("effect").abs().mean())
        )
        return ranked.sort("transfer", descending=True, maintain_order=True)

    def top(self, count: int, components: Sequence[Component] | None = None) -> list[Patch]:
        """The patches of the `count` sites that rank highest, of all components or these."""
        return [Patch.parse(name) for name in self.ranking(components)["patch"].head(count)]

    def rank_correlation(self, exact: Sequence[Sequence[Trajectory]]) -> pl.DataFrame:
        """Spearman's correlation of the estimates with exact effects, for each component that has any.

        `exact` has for each text what `score_tokens` gave for some patches of single sites. `cells` correlates all
        (site, step) cells at which the models disagree, `sites` each site's mean over them; null where a correlation
        is undefined. `n_cells` and `n_sites` say how many there are.
        """
        measured = pl.DataFrame(
            [
                (text, Patch(trajectory.patch.sites).name, step, self._effect(scores))
                for text, trajectories in enumerate(exact)
                for trajectory in trajectories
                for step, scores in enumerate(trajectory.steps)
            ],
            schema={"text": pl.Int32, "patch": pl.String, "step": pl.Int32, "exact": pl.Float64},
            orient="row",
        )
        cells = self._scored(None).join(measured, on=["text", "patch", "step"])
        sites = cells.group_by(_PLACE, maintain_order=True).agg(pl.col("effect", "exact").mean())
        spearman = pl.corr("effect", "exact", method="spearman").fill_nan(None)
        of_cells = cells.group_by("component", maintain_order=True).agg(cells=spearman, n_cells=pl.len())
        of_sites = sites.group_by("component", maintain_order=True).agg(sites=spearman, n_sites=pl.len())
        return of_cells.join(of_sites, on="component", maintain_order="left")

    @property
    def gap(self) -> float:
        """Σ (ΔL_source − ΔL_target) in logits over the steps at which the models disagree; UsageError where none."""
        scored = self.steps.filter("disagree")
        if scored.is_empty():
            raise UsageError(
                f"the models want the same token at all {self.steps.height} steps, so there is nothing that could "
                "transfer; give other texts or longer ones"
            )
        apart = float((scored["delta_corrupted"] - scored["delta_clean"]).sum())
        return apart if self.direction == "corrupt" else -apart

    def _scored(self, components: Sequence[Component] | None) -> pl.DataFrame:
        scored = self.cells.filter("disagree")
        return scored if components is None else scored.filter(pl.col("component").is_in(list(components)))

    def _effect(self, scores: Mapping[str, float]) -> float:
        return scores["delta_patched"] - scores["delta_clean" if self.direction == "corrupt" else "delta_corrupted"]


def screen(
    pair: ModelPair,
    texts: Sequence[GivenText],
    run: PatchRun,
    *,
    components: Sequence[Component] = get_args(Component),
    integrated: int = 0,
) -> Screen:
    """Estimate what patching each site of the components would do at each step of some texts.

    `integrated` is the number of points between the target's residual stream and the source's at which gradients
    are taken and averaged: they change along the way, and one point, half-way, already sees much of that. 0 takes
    them at the target's own stream. Costs for each text two plain passes, and for the steps at which the models
    disagree two more and a forward and backward pass for each point. Components that a block lacks are left out.
    Raises UsageError for persistent patches, whose past is not the target's, and for an empty prompt or text.
    """
    if run.persistence == "persistent":
        raise UsageError("got persistent patches; only transient ones leave the past alone, as the screen needs")
    if integrated < 0:
        raise UsageError(f"got {integrated} points to integrate over, expected 0 or more")
    for given in texts:
        if not given.prompt or not given.text:
            raise UsageError("got an empty prompt or text to screen along, expected at least one token of each")
    sites = [site for site in _sites(pair, components) if all(_has(model, site) for model in pair.oriented("corrupt"))]
    cells, steps = [], []
    # Not in inference mode, whoever calls: its tensors could not be saved for a backward pass.
    with torch.inference_mode(False), torch.no_grad():
        for number, given in enumerate(tqdm(texts, desc="screen", unit="text", leave=False)):
            found = _Screening(pair, given, run, sites, integrated)
            text = pl.lit(number, pl.Int32).alias("text")
            steps.append(found.steps.select(text, pl.all()))
            cells.append(found.cells().select(text, pl.all()))
    empty = pl.DataFrame(schema=_STEPS)
    return Screen(run.direction, pl.concat(cells) if cells else pl.DataFrame(), pl.concat([empty, *steps]))


def _sites(pair: ModelPair, components: Sequence[Component]) -> list[Site]:
    return [
        Site(layer, component, head)
        for layer in range(pair.n_layers)
        for component in components
        for head in (range(pair.n_heads) if component == "head" else (None,))
    ]


def _has(model: nn.Module, site: Site) -> bool:
    body: Anatomy = anatomy(model)
    try:
        body.check(site)
    except UsageError:
        return False
    return True


@dataclass(frozen=True)
class _Screening:
    """The screen of one text; S steps, U of them at which the models disagree, W the width of a site."""

    pair: ModelPair
    given: GivenText
    run: PatchRun
    sites: Sequence[Site]
    integrated: int

    @cached_property
    def steps(self) -> pl.DataFrame:
        """What the unpatched models want at each step; reading the text leaves keys and values in both pasts."""
        hidden = {model: self._read_text(model) for model in (self.pair.clean, self.pair.corrupted)}
        columns: dict[str, list[Tensor]] = {name: [] for name in ("y_clean", "y_corrupt", "clean", "corrupted")}
        for clean, corrupted in zip(*(states.split(UNEMBED_AT_ONCE) for states in hidden.values()), strict=True):
            of_clean, of_corrupted = (
                self._unembed(self.pair.clean, clean),
                self._unembed(self.pair.corrupted, corrupted),
            )
            wants = of_clean.argmax(-1), of_corrupted.argmax(-1)
            found = (*wants, _delta(of_clean, *wants), _delta(of_corrupted, *wants))
            for column, values in zip(columns.values(), found, strict=True):
                column.append(values.cpu())
        listed = [torch.cat(column).tolist() for column in columns.values()]
        return pl.DataFrame(
            {
                "step": range(len(self.given.text)),
                **dict(
                    zip(("clean_token_id", "corrupted_token_id", "delta_clean", "delta_corrupted"), listed, strict=True)
                ),
                "disagree": [a != b for a, b in zip(listed[0], listed[1], strict=True)],
            },
            schema={name: dtype for name, dtype in _STEPS.items() if name != "text"},
        )

    def cells(self) -> pl.DataFrame:
        """The effect of each site at each step."""
        disagree = self.steps["disagree"].to_list()
        apart = [step for step, differs in enumerate(disagree) if differs]
        effects = torch.zeros(len(self.sites), len(disagree))
        for start in range(0, len(apart), POSITIONS_AT_ONCE):
            some = apart[start : start + POSITIONS_AT_ONCE]
            effects[:, some] = self._effects(some).cpu()
        places = pl.DataFrame(
            [(Patch((site,)).name, site.component, site.layer, site.head) for site in self.sites],
            schema=dict(zip(_PLACE, (pl.String, pl.String, pl.Int32, pl.Int32), strict=True)),
            orient="row",
        ).with_columns(effect=pl.Series(effects.numpy(), dtype=pl.Array(pl.Float32, len(disagree))))
        steps = pl.lit(self.steps["step"].implode()), pl.lit(self.steps["disagree"].implode())
        cells = places.with_columns(pl.col("effect").arr.to_list(), step=steps[0], disagree=steps[1])
        return cells.explode("effect", "step", "disagree").select(*_PLACE, "step", "effect", "disagree")

    def _effects(self, steps: list[int]) -> Float[Tensor, "sites U"]:
        """Σ over the width of gradient × (source − target), at steps of disagreement."""
        there = self._packing(steps)
        of_target, of_source = (self._activations(model, there) for model in self.pair.oriented(self.run.direction))
        moves = [of_source[site].to(of_target[site].device).float() - of_target[site].float() for site in self.sites]
        effects = torch.zeros(len(self.sites), len(steps), device=there.device)
        for k in range(max(1, self.integrated)):
            streams = None
            if self.integrated:
                # The midpoint rule.
                share = (k + 0.5) / self.integrated
                streams = {
                    site: of_target[site].lerp(of_source[site].to(of_target[site]), share) for site in self._posts
                }
            gradients = self._gradients(steps, there, streams)
            effects += torch.stack([(g.float() * move).sum(-1) for g, move in zip(gradients, moves, strict=True)])
        return effects / max(1, self.integrated)

    def _gradients(
        self, steps: list[int], there: Packing, streams: Mapping[Site, Float[Tensor, "U D"]] | None
    ) -> list[Float[Tensor, "U W"]]:
        """The gradient of each step's ΔL at its own position, for each site; at the residual `streams` if given.

        Their values take the place of the target's own after each block; gradients pass as if nothing had happened.
        """
        target = self.pair.oriented(self.run.direction)[0]
        live: dict[Site, Tensor] = {}
        with torch.enable_grad():
            edits = {site: _remembered(site, live, (streams or {}).get(site)) for site in self.sites}
            edits |= {
                site: _remembered(site, {}, stream) for site, stream in (streams or {}).items() if site not in edits
            }
            hidden = packed_pass(target, there, self._pasts[target], edits=edits)
        onwards = []
        chosen = self.steps[steps]
        wants = [
            torch.tensor(chosen[f"{which}_token_id"].to_list(), device=there.device) for which in ("clean", "corrupted")
        ]
        # The head apart from the body and a few positions at a time: logits of all positions would not fit.
        for states, *ys in zip(
            hidden.detach().split(UNEMBED_AT_ONCE), *(y.split(UNEMBED_AT_ONCE) for y in wants), strict=True
        ):
            with torch.enable_grad():
                wanted = states.requires_grad_()
                total = _delta(self._unembed(target, wanted), *ys).sum()
            onwards += torch.autograd.grad(total, wanted)
        return list(torch.autograd.grad(hidden, [live[site] for site in self.sites], torch.cat(onwards)))

    @cached_property
    def _pasts(self) -> dict[nn.Module, KeyValues]:
        return {self.pair.clean: KeyValues(), self.pair.corrupted: KeyValues()}

    @property
    def _posts(self) -> list[Site]:
        return [Site(layer) for layer in range(self.pair.n_layers)]

    @property
    def _read_ids(self) -> list[int]:
        return [*self.given.prompt, *self.given.text[:-1]]

    def _read_text(self, model: nn.Module) -> Float[Tensor, "S D"]:
        """The model's last hidden states at the steps."""
        past = self._pasts[model]
        lane = past.open()
        tokens = [Token(id, position, lane) for position, id in enumerate(self._read_ids)]
        with fast_linear(model):
            return packed_pass(model, Packing(tokens, self.pair.clean.device), past)[len(self.given.prompt) - 1 :]

    def _packing(self, steps: list[int]) -> Packing:
        """The positions of some steps, apart: each reads what the text has left before it, and itself."""
        ids, first = self._read_ids, len(self.given.prompt) - 1
        return Packing([Token(ids[first + t], first + t, 0, apart=True) for t in steps], self.pair.clean.device)

    def _activations(self, model: nn.Module, there: Packing) -> dict[Site, Float[Tensor, "U W"]]:
        with fast_linear(model), reading(model, [*self.sites, *self._posts]) as activations:
            packed_pass(model, there, self._pasts[model])
        return {site: activation[0] for site, activation in activations.items()}

    def _unembed(self, model: nn.Module, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        with fast_linear(model):
            return unembed(model, hidden, float32=self.run.float32_unembedding)


def _remembered(site: Site, live: dict[Site, Tensor], stream: Float[Tensor, "U D"] | None) -> Edit:
    """An edit that changes nothing (or, given a `stream`, the values only), and keeps what gradients are taken at."""

    def edit(activation: Tensor) -> Tensor:
        # Where no weight wants gradients the first sites would not either.
        wanted = activation if activation.requires_grad else activation.detach().requires_grad_()
        # A tensor of its own: what later parts read, and not also what it was made from.
        live[site] = wanted.clone() if stream is None else wanted + (stream[None] - wanted).detach()
        return live[site]

    return edit


def _delta(
    logits: Float[Tensor, "N V"], y_clean: Int[Tensor, " N"], y_corrupt: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """ΔL = logit(y_corrupt) − logit(y_clean)."""
    return (logits.gather(-1, y_corrupt[:, None]) - logits.gather(-1, y_clean[:, None])).squeeze(-1)
