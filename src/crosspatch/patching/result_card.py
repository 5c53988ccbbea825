"""What a notebook shows of a result: what was patched, how often the models disagree, and how much transfers where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from crosspatch.card import Bar, Card, Strip, Table, listed
from crosspatch.patching.measures import DIFFER

if TYPE_CHECKING:
    from crosspatch.patching.result import PatchResult

# Patches that a table shows; more of single layers stand side by side, of others the best are shown.
MOST = 8
_COLUMNS = ("patch", "models disagree", "mean CTS", "ratio of sums")


def result_card(result: PatchResult) -> Card:
    """Prompts, patches, disagreement and transfer by patch, over all prompts together."""
    scores = result.scores
    if scores.is_empty():
        return Card("A result of patching, without scores")
    profile = result.profile()
    cells, differ = scores.height, int(scores.select(DIFFER.sum()).item())
    ways = scores.select("direction", "persistence").unique().sort("direction").iter_rows()
    facts = [
        ("prompts", f"{scores['prompt_id'].n_unique()}: {listed(scores['prompt_id'].unique(maintain_order=True))}"),
        ("patches", f"{profile.height}: {listed(profile['patch'])}"),
        ("direction", "; ".join(", ".join(way) for way in ways)),
        ("models disagree", f"{differ:,} of {cells:,} cells ({differ / cells:.1%}); elsewhere CTS is undefined"),
    ]
    hints = [
        "result.scores, result.generations, result.profile()",
        f'result.text("{profile["patch"][-1]}"), result.text("clean"), result.text("corrupted")',
        *_heatmap_hint(scores),
    ]
    return Card("What patching gave", facts, [_transfer(profile)], hints)


def _heatmap_hint(scores: pl.DataFrame) -> list[str]:
    """How a heatmap is drawn: of single layers, and of one way of patching them."""
    several = pl.col("patch").str.contains("+", literal=True)
    layers = scores.filter(pl.col("layer").is_not_null(), pl.col("head").is_null(), ~several)
    ways = layers.select("component", "direction", "persistence").unique().sort(pl.all()).rows()
    if not ways:
        return []
    return [
        "crosspatch.heatmap(result)"
        if len(ways) == 1
        else f"crosspatch.heatmap(result, variant=crosspatch.Variant{ways[0]})"
    ]


def _transfer(profile: pl.DataFrame) -> Table | Strip:
    """What transfers by patch: all of a few; of many single layers a strip, of other patches the best."""
    if profile.height <= MOST:
        return Table(_COLUMNS, [_row(row) for row in profile.iter_rows(named=True)])
    alike = profile.select("component", "direction", "persistence").n_unique() == 1
    one_each = profile["layer"].null_count() == 0 and profile["layer"].n_unique() == profile.height
    if alike and one_each:
        by_layer = profile.sort("layer")
        bars = [Bar(row["transfer"]) for row in by_layer.iter_rows(named=True)]
        hovers = [
            f"{row['patch']}: ratio of sums {bar.number}, mean CTS {Bar(row['mean_cts']).number}, "
            f"disagree {row['disagreements']} of {row['positions']}"
            for row, bar in zip(by_layer.iter_rows(named=True), bars, strict=True)
        ]
        title = f"Transfer by layer, {profile['component'][0]} (ratio of sums; full height is 1)"
        return Strip(title, [f"layer {layer}" for layer in by_layer["layer"]], bars, hovers)
    best = profile.sort("transfer", descending=True, nulls_last=True).head(MOST)
    note = f"The {MOST} of {profile.height} patches that transfer most; all are in result.profile()."
    return Table(_COLUMNS, [_row(row) for row in best.iter_rows(named=True)], note)


def _row(row: dict[str, Any]) -> tuple[str | Bar, ...]:
    disagree = f"{row['disagreements']:,} of {row['positions']:,}"
    return row["patch"], disagree, Bar(row["mean_cts"]).number, Bar(row["transfer"])
