"""The result of patching: scores and texts of prompts under patches. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from crosspatch.config import Direction
from crosspatch.errors import UsageError
from crosspatch.html_repr import Bar, HtmlRepr, Strip, Table, listed
from crosspatch.models.chat import PromptFormat
from crosspatch.patching.measures import DIFFER, ONE_LAYER, pooled
from crosspatch.tables import CONTROLS, REPAIRED

# The columns of scores that have token ids.
_TOKENS = ("token_id", "clean_token_id", "corrupted_token_id")


@dataclass(frozen=True)
class PatchResult:
    """Scores and texts of one or several prompts under some patches.

    `scores` has a row for each (prompt, patch, step), `generations` a row for each text (see crosspatch.tables).
    `vocabulary` maps the ids of all generated or predicted tokens to their texts, `controls` has a row for each cell of
    a control, and `selection` has the estimates and effects by which `attribution` or `target_fraction` chose patches.
    """

    scores: pl.DataFrame
    generations: pl.DataFrame
    vocabulary: Mapping[int, str] = field(default_factory=dict, repr=False)
    controls: pl.DataFrame = field(default_factory=CONTROLS.frame)
    selection: pl.DataFrame | None = None

    def text(self, patch: str, prompt_id: str | None = None, direction: Direction | None = None) -> str:
        """Return the text generated under a patch, such as `L18.resid_post`, or by the model `clean` or `corrupted`.

        The default is the first direction that was patched. Raises UsageError if there is no such text.
        """
        named = (pl.col("patch") == patch) | (pl.col("patch").is_null() & (pl.col("condition") == patch))
        rows = self.generations.filter(named)
        if direction is not None:
            patched = self.scores["direction"].unique(maintain_order=True).to_list()
            called = REPAIRED if len(patched) > 1 and direction == "repair" else "patched"
            rows = rows.filter(pl.lit(direction in patched) & (pl.col("condition") == called))
        if prompt_id is not None:
            rows = rows.filter(pl.col("prompt_id") == prompt_id)
        if rows.is_empty():
            raise UsageError(f"nothing was generated under {patch}; the texts are in result.generations")
        return str(rows["text"][0])

    def profile(self) -> pl.DataFrame:
        """Aggregate over all prompts, one row per patch: how often the models disagree, and the recovered fraction.

        The columns are those of `crosspatch.patching.measures.pooled`.
        """
        return pooled(self.scores)

    def _repr_html_(self) -> str:
        return _html_repr(self).html


def token_texts(scores: pl.DataFrame, prompts: PromptFormat) -> dict[int, str]:
    """Map the ids of all generated or predicted tokens in `scores` to their texts."""
    ids = scores.unpivot(list(_TOKENS))["value"].unique().sort()
    return {token_id: prompts.token_text(token_id) for token_id in ids}


# A table shows at most this many patches. If there are more, single layers become a strip, else the best are shown.
MOST = 8
_COLUMNS = ("patch", "models disagree", "mean CTS", "recovered fraction")


def _html_repr(result: PatchResult) -> HtmlRepr:
    """Build the HTML representation: prompts, patches, disagreement, and the recovered fraction of each patch."""
    scores = result.scores
    if scores.is_empty():
        return HtmlRepr("Result of patching, without scores")
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
    return HtmlRepr("Result of patching", facts, [_recovered(profile)], hints)


def _heatmap_hint(scores: pl.DataFrame) -> list[str]:
    """Return the call that draws a heatmap, or nothing without patches of single layers."""
    single = scores.filter(ONE_LAYER).select("component", "direction", "persistence", "schedule")
    ways = single.unique().sort(pl.all()).rows()
    if not ways:
        return []
    return [
        "crosspatch.heatmap(result)"
        if len(ways) == 1
        else f"crosspatch.heatmap(result, mode=crosspatch.PatchMode{ways[0]})"
    ]


def _recovered(profile: pl.DataFrame) -> Table | Strip:
    """Show recovered fractions: a table of a few patches, a strip of many single layers, or a table of the best."""
    if profile.height <= MOST:
        return Table(_COLUMNS, [_row(row) for row in profile.iter_rows(named=True)])
    alike = profile.select("component", "direction", "persistence").n_unique() == 1
    one_each = profile["layer"].null_count() == 0 and profile["layer"].n_unique() == profile.height
    if alike and one_each:
        by_layer = profile.sort("layer")
        bars = [Bar(row["recovered_fraction"]) for row in by_layer.iter_rows(named=True)]
        hovers = [
            f"{row['patch']}: recovered fraction {bar.number}, mean CTS {Bar(row['mean_cts']).number}, "
            f"disagree {row['disagreements']} of {row['positions']}"
            for row, bar in zip(by_layer.iter_rows(named=True), bars, strict=True)
        ]
        title = f"Recovered fraction by layer, {profile['component'][0]} (full height is 1)"
        return Strip(title, [f"layer {layer}" for layer in by_layer["layer"]], bars, hovers)
    best = profile.sort("recovered_fraction", descending=True, nulls_last=True).head(MOST)
    note = f"The {MOST} of {profile.height} patches that recover most; all are in result.profile()."
    return Table(_COLUMNS, [_row(row) for row in best.iter_rows(named=True)], note)


def _row(row: dict[str, Any]) -> tuple[str | Bar, ...]:
    disagree = f"{row['disagreements']:,} of {row['positions']:,}"
    return row["patch"], disagree, Bar(row["mean_cts"]).number, Bar(row["recovered_fraction"])
