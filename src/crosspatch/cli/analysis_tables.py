"""What `crosspatch localise` and `crosspatch lenses` print, a table each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from crosspatch.cli.application import console
from crosspatch.cli.tables import print_rows
from crosspatch.statistics.domain import domain_title, ordered_domains
from crosspatch.statistics.interval import Interval
from crosspatch.statistics.lenses import (
    activation_statistics,
    chosen_steering,
    lens_statistics,
    moved_tokens,
    steering,
    weights_by,
)
from crosspatch.statistics.localisation import POSITIONS, RANKED_BY, divergence_effects, site_effects, top_sites
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import ACTIVATIONS, BEHAVIOUR, DIVERGENCES, LOCALISATION, LOGIT_LENS, WEIGHTS

# Places of each component that are shown, and tokens of the logit lens of each layer, raised and lowered.
_TOP, _TOKENS = 5, 6


def print_site_effects(directory: RunDirectory) -> None:
    """The site effects and first divergences of a run directory, domain by domain."""
    domains = directory.domains()
    measured = directory.read(LOCALISATION)
    table = site_effects(measured, domains, seed=directory.seed)
    for domain, direction, positions in (
        table.select("domain", "direction", "positions").unique(maintain_order=True).rows()
    ):
        title = f"{domain_title(domain)}, {direction}, patched {POSITIONS[positions]}"
        rows = []
        for component, measure in RANKED_BY.items():
            best = table.filter(
                domain=domain, direction=direction, positions=positions, component=component, measure=measure
            ).sort("estimate", descending=True, nulls_last=True)
            for row in best.head(_TOP).iter_rows(named=True):
                shown = str(Interval.of_row(row))
                rows.append(
                    {
                        "site": row["patch"],
                        "measure": measure,
                        "recovered fraction": shown,
                        "prompts": str(row["n_prompts"]),
                    }
                )
        print_rows(title, rows)
        for named in top_sites(measured, domains, domain, direction, positions=positions, seed=directory.seed):
            console.print(named.sentence, soft_wrap=True)
    parts = divergence_effects(directory.read(DIVERGENCES), domains, seed=directory.seed)
    for domain in parts["domain"].unique(maintain_order=True):
        lines: dict[int, dict[str, str]] = {}
        for row in parts.filter(pl.col("domain") == domain).sort("layer").iter_rows(named=True):
            line = lines.setdefault(row["layer"], {"layer": str(row["layer"])})
            line[row["measure"]] = str(Interval.of_row(row))
        print_rows(f"{domain_title(domain)}: the first divergence, residual state × later layers", list(lines.values()))


def print_lenses(directory: RunDirectory) -> None:
    """The lenses of a run directory, as far as they were made."""
    domains, seed = directory.domains(), directory.seed
    weights = weights_by(directory.read(WEIGHTS), "layer")
    _by_layer("Weights: relative change of each block", weights, "child", lambda row: f"{row['ratio']:.1e}")
    moved = activation_statistics(directory.read(ACTIVATIONS), domains, seed=seed)
    # Related problems, where there are any.
    shown = ordered_domains(moved["domain"])[:1]
    moved = moved.filter(pl.col("domain").is_in(shown), component="resid_post", at="all", measure="relative_norm")
    _by_layer("Activations: relative change of resid_post", moved, "child", _interval)
    lens = directory.read(LOGIT_LENS)
    seen = lens_statistics(lens, domains, seed=seed).filter(pl.col("domain").is_in(shown))
    _by_layer("Logit lens: share of the gap that it shows", seen, "child", _interval)
    tokens = moved_tokens(lens, domains).filter(pl.col("domain").is_in(shown), child="corrupted", by="probability")
    print_rows("Tokens that the corrupted model's difference raises and lowers most", _tokens(tokens))
    rows = [
        {
            "condition": row["condition"],
            "patch": row["patch"],
            "outcome": row["outcome"],
            "texts": f"{row['count']}/{row['n']}",
            "against clean": f"−{row['lost']} +{row['gained']}",
            "p": f"{row['p_value']:.2g}",
        }
        for row in steering(directory.read(BEHAVIOUR)).filter(against="clean").iter_rows(named=True)
    ]
    print_rows("Steering by the mean difference, and by a random one of its size", rows)
    rows = [
        {
            "condition": row["condition"],
            "outcome": row["outcome"],
            "texts": f"{row['count']}/{row['n']}",
            "95 %": f"{row['low']:.2f} to {row['high']:.2f}",
        }
        for row in chosen_steering(directory.read(BEHAVIOUR)).iter_rows(named=True)
    ]
    print_rows("Steering at the layer and strength that the other prompts choose", rows)


def _by_layer(title: str, frame: pl.DataFrame, column: str, shown: Callable[[dict[str, Any]], str]) -> None:
    rows: dict[int, dict[str, str]] = {}
    for row in frame.sort("layer").iter_rows(named=True):
        rows.setdefault(row["layer"], {"layer": str(row["layer"])})[row[column]] = shown(row)
    print_rows(title, list(rows.values()))


def _interval(row: dict[str, Any]) -> str:
    return str(Interval.of_row(row))


def _tokens(tokens: pl.DataFrame) -> list[dict[str, str]]:
    rows = []
    for (layer,), part in tokens.partition_by("layer", as_dict=True, maintain_order=True).items():
        named = {
            side: ", ".join(repr(token) for token in part.filter(side=side)["token"].head(_TOKENS))
            for side in ("up", "down")
        }
        rows.append({"layer": str(layer), "raised": named["up"], "lowered": named["down"]})
    return rows
