"""Site effects: recovered fractions of blocks, attentions, MLPs and heads, with intervals, and the top sites.

A recovered fraction is a ratio of sums, and its interval is by bootstrap over prompts. Blocks are compared by their
step: the recovered fraction of a block's resid_post minus that of the block below. Patching all positions measures what
a site computes; patching the current position measures what reaches the position that predicts the token. The top site
is chosen on one half of the prompts and tested on the other.

`divergence_effects` covers the first step at which the models predict different tokens: how much of the gap is due to
the residual state up to a layer, and how much to the later layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crosspatch.patching.measures import in_half
from crosspatch.statistics.bootstrap import Ratios, bootstrap, chosen, estimates, held_out, seeded_resamples
from crosspatch.statistics.domain import ordered_domains, with_domain
from crosspatch.statistics.interval import Interval, Numbers
from crosspatch.tables import DIVERGENCE_EFFECTS, SITE_EFFECTS

# The measure by which the sites of each component are ranked.
RANKED_BY = {
    "resid_post": "step",
    "attn_out": "recovered_fraction",
    "mlp_out": "recovered_fraction",
    "head": "recovered_fraction",
}
# A fraction counts as everything if its whole interval is within this distance of 1.
NEAR = 0.05
POSITIONS = {"all": "at all positions", "current": "at the current position"}
NAMES = {"resid_post": "block", "attn_out": "attention", "mlp_out": "MLP", "head": "head"}
# `L18 head 3` for a head, `L18` for other components.
_LABEL = (
    pl.when(pl.col("head").is_null())
    .then(pl.format("L{}", "layer"))
    .otherwise(pl.format("L{} head {}", "layer", "head"))
)


@dataclass(frozen=True)
class TopSite:
    """The top site of one component, and its lead over the second.

    `recovered_fraction` is measured for this site over all prompts (for a block: its step). Since the same prompts
    chose the site, its test is cross-fitted: `held_out` is the fraction of the site chosen on the other half of the
    prompts, `ahead` its difference from that half's second site, and `agreed` whether both halves choose this site.
    `runner_up` is None if only one site was measured. `labels` maps patches to the names of sites in sentences.
    """

    component: str
    patch: str
    recovered_fraction: float
    held_out: Interval
    runner_up: str | None
    ahead: Interval
    agreed: bool
    labels: Mapping[str, str]

    @property
    def told_apart(self) -> bool:
        """Whether both halves choose this site, and the interval of its lead is above 0."""
        return self.agreed and self.ahead.low is not None and self.ahead.low > 0

    @property
    def is_all(self) -> bool:
        """Whether the site recovers everything by itself: both halves choose it and its interval is near 1."""
        low, high = self.held_out.low, self.held_out.high
        return self.agreed and low is not None and high is not None and low > 1 - NEAR and high < 1 + NEAR

    @property
    def sentence(self) -> str:
        """A sentence with the site, its recovered fraction, and whether it can be distinguished from the second."""
        found = (
            f"Top {NAMES[self.component]}: {self.labels[self.patch]}, recovered fraction {self.recovered_fraction:z.2f}"
        )
        if RANKED_BY[self.component] == "step":
            found += " above the block below"
        if self.held_out.estimate is not None:
            found += f", on prompts that did not choose it {self.held_out}"
        found += f"{', which is everything' * self.is_all}."
        if self.runner_up is None:
            return found
        second = self.labels[self.runner_up]
        if self.told_apart:
            return f"{found} There it is ahead of the next, {second}, by {self.ahead}."
        if self.held_out.estimate is not None and not self.agreed:
            return f"{found} It is not told apart from the next, {second}: not both halves of the prompts choose it."
        ahead = "" if self.ahead.estimate is None else f": there it is ahead by {self.ahead}"
        return f"{found} It is not told apart from the next, {second}{ahead}."


def site_effects(localisation: pl.DataFrame, domains: Mapping[str, str], *, seed: int = 0) -> pl.DataFrame:
    """Compute every measure of every site by domain and direction, with 95 % intervals (see tables.SITE_EFFECTS).

    `domains` maps prompts to domains; `seed` seeds the bootstrap. Raises ValueError for a prompt without a domain.
    """
    rows = [
        {"domain": domain, "direction": direction, "positions": positions, **row}
        for (domain, direction, positions), sums in _parts(localisation, domains, seed)
        for row in sums.rows()
    ]
    return SITE_EFFECTS.frame(rows)


def top_sites(
    localisation: pl.DataFrame,
    domains: Mapping[str, str],
    domain: str,
    direction: str = "corrupt",
    *,
    positions: str = "all",
    seed: int = 0,
) -> list[TopSite]:
    """Return the top block, attention, MLP and head of one domain, of those measured; blocks rank by their step.

    With `positions` all, these sites cause the difference; with current, they carry it to the predicting position.
    """
    return [
        named
        for found, sums in _parts(localisation, domains, seed)
        if found == (domain, direction, positions)
        for component in RANKED_BY
        if (named := sums.named(component)) is not None
    ]


def _parts(
    localisation: pl.DataFrame, domains: Mapping[str, str], seed: int
) -> Iterator[tuple[tuple[str, str, str], _Sums]]:
    """Yield the sums for each domain, direction and `positions`."""
    known = with_domain(localisation, domains)
    for domain in ordered_domains(known["domain"]):
        parts = known.filter(domain=domain).partition_by("direction", "positions", as_dict=True, maintain_order=True)
        for (direction, positions), part in parts.items():
            yield (domain, str(direction), str(positions)), _Sums(part, seed)


class _Sums:
    """The sums [N prompts] of each site in one domain, direction and `positions`, by component, layer and head."""

    def __init__(self, rows: pl.DataFrame, seed: int) -> None:
        prompts = rows.select("prompt_id", "gap", "steps").unique("prompt_id", maintain_order=True)
        self.gap: Numbers = prompts["gap"].to_numpy()
        self.steps = int(prompts["steps"].list.len().sum())
        self.counts, _ = seeded_resamples(prompts.height, seed)
        self.sums: dict[str, dict[str, Numbers]] = {}
        for (patch,), part in rows.partition_by("patch", as_dict=True, maintain_order=True).items():
            # A site has a sum over prompts only if it was measured for every prompt.
            whole = prompts.select("prompt_id").join(part, on="prompt_id", how="left", maintain_order="left")
            known = [name for name in ("estimate", "patched", "random") if not whole[name].has_nulls()]
            self.sums[str(patch)] = {name: whole[name].to_numpy() for name in known}
        order = pl.col("component").replace_strict({name: i for i, name in enumerate(RANKED_BY)})
        self.at = rows.select("patch", "component", "layer", "head").unique().sort(order, "layer", "head")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the table of site effects, without domain and direction."""
        for place in self.at.iter_rows(named=True):
            for measure, above in self._measures(place["patch"], place["component"]).items():
                counted = {"n_prompts": int((self.gap != 0).sum()), "steps": self.steps}
                yield {**place, "measure": measure, **self._ratio(above).columns, **counted}

    def named(self, component: str) -> TopSite | None:
        """Return the top site of a component, or None if none of its sites was measured."""
        of_patch = {
            patch: measures[RANKED_BY[component]]
            for patch in self.at.filter(component=component)["patch"]
            if RANKED_BY[component] in (measures := self._measures(patch, component))
        }
        total = self.gap.sum()
        if not of_patch or not total:
            return None
        shares = {patch: float(above.sum() / total) for patch, above in of_patch.items()}
        first, *others = sorted(shares, key=lambda patch: -shares[patch])
        every, allowed = np.stack(list(of_patch.values())), self._allowed(component, list(of_patch))
        best, second = (chosen(every, self.gap, rank, allowed) for rank in (0, 1))
        labels = dict(self.at.select("patch", _LABEL).iter_rows())
        share = ahead = Interval(None)
        if best is not None:
            share = self._ratio(held_out(every, best))
            if second is not None:
                ahead = self._ratio(held_out(every, best) - held_out(every, second))
        agreed = best is not None and {list(of_patch)[i] for i in best} == {first}
        return TopSite(component, first, shares[first], share, others[0] if others else None, ahead, agreed, labels)

    def _allowed(self, component: str, measured: Sequence[str]) -> NDArray[np.bool_]:
        """Return a mask of the measured sites that each half of the prompts may choose, [2, measured].

        Only the heads with the largest estimates were measured, and these estimates use all prompts. To stay
        independent, a half chooses only from the top of its own ranking, down to the first site that was not measured.
        """
        places = self.at.filter(component=component)["patch"].to_list()
        estimates = np.stack([self.sums[place]["estimate"] for place in places])
        allowed = []
        for half in (0, 1):
            some = in_half(len(self.gap), half)
            shares = estimates[:, some].sum(1) / (self.gap[some].sum() or 1.0)
            ranked = [places[i] for i in np.argsort(-shares, kind="stable")]
            best = set(takewhile(set(measured).__contains__, ranked))
            allowed.append([place in best for place in measured])
        return np.array(allowed)

    def _measures(self, patch: str, component: str) -> dict[str, Numbers]:
        """Return the numerators of a site's measures, whose denominator is always the gap."""
        own = self.sums[patch]
        found = {"attribution": own["estimate"]}
        if "patched" not in own:
            return found
        found["recovered_fraction"] = own["patched"]
        if "random" in own:
            found |= {"random": own["random"], "beyond": own["patched"] - own["random"]}
        if component == "resid_post":
            layers = self.at.filter(component=component)["patch"].to_list()
            below = [self.sums[name]["patched"] for name in layers[: layers.index(patch)][-1:]]
            found["step"] = own["patched"] - sum(below)
        return found

    def _ratio(self, above: Numbers) -> Interval:
        return bootstrap(Ratios(above, self.gap), self.counts)


_GAP = pl.col("delta_corrupted") - pl.col("delta_clean")
_DECIDES = {"state_decides": "delta_corrupted_state", "layers_decide": "delta_corrupted_layers"}
_EFFECTS = {
    **{name: (pl.col(name), _GAP) for name in ("state_effect", "layers_effect", "interaction")},
    # If ΔL > 0, y_corrupt is more probable than y_clean.
    **{name: (pl.col(delta) > 0, pl.lit(1.0)) for name, delta in _DECIDES.items()},
}


def divergence_effects(divergences: pl.DataFrame, domains: Mapping[str, str], *, seed: int = 0) -> pl.DataFrame:
    """Compute every measure by domain and layer, with 95 % intervals over prompts (see tables.DIVERGENCE_EFFECTS).

    Raises ValueError for a prompt without a domain.
    """
    ordered = divergences.sort("prompt_id", "layer")
    return DIVERGENCE_EFFECTS.frame(estimates(ordered, domains, ["layer"], _EFFECTS, seed=seed, shares=_DECIDES))
