"""Counts in sentences. Comparisons, with intervals and controls, are claims (see crosspatch.statistics.claims)."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from crosspatch.statistics.answers import ConditionRow
from crosspatch.statistics.domain import domain_title, ordered_domains
from crosspatch.statistics.patch_mode import PatchMode
from crosspatch.statistics.profile import depth_profile


def score_findings(scores: pl.DataFrame, mode: PatchMode, domains: Mapping[str, str]) -> list[str]:
    """Sentences on how often the models disagree under one mode, and how much is recovered where they disagree."""
    rows = mode.rows(scores)
    if rows.is_empty():
        return []
    profile = depth_profile(rows, domains)
    total, differ, ok, small, outside = profile.select(
        pl.col("positions", "disagreements", "ok_cells", "small_denominators", "outside_unit").sum()
    ).row(0)
    sentences = [f"The models predict different tokens at {_share(differ, total)} patched steps."]
    by_domain = profile.group_by("domain").agg(pl.col("positions", "disagreements").sum())
    counts = {domain: (differ, total) for domain, total, differ in by_domain.iter_rows()}
    if len(counts) > 1:
        parts = [f"{domain_title(domain)}: {_share(*counts[domain])}" for domain in ordered_domains(counts)]
        sentences.append(f"By domain: {'; '.join(parts)}.")
    if not ok:
        return [*sentences, "No cell has a CTS, so nothing can be said about how much is recovered."]
    left_out = f"; at {small:,} the models differ by too little to divide by" if small else ""
    beyond = f"{_share(outside, ok)} defined values lie outside [0, 1]"
    sentences.append(f"CTS is defined at {ok:,} of them{left_out}. {beyond}.")
    for domain in ordered_domains(counts):
        sentences += _by_depth(profile.filter(pl.col("domain") == domain), domain)
    return sentences


def behaviour_findings(rows: list[ConditionRow]) -> list[str]:
    """Sentences on the unpatched models' answers by domain, with operations where operations were expected."""
    unpatched = [row for row in rows if row.patch is None]
    sentences = []
    for domain in ordered_domains(domain for row in unpatched for domain in row.outcomes):
        asked = [(row.condition, row.outcomes[domain]) for row in unpatched if domain in row.outcomes]
        answers = ", ".join(f"{condition} {outcome.answers}" for condition, outcome in asked)
        sentence = f"{domain_title(domain)}, correct answers: {answers}."
        operations = [f"{condition} {outcome.operations}" for condition, outcome in asked if outcome.operations]
        if operations:
            sentence += f" Operations: {'; '.join(operations)}."
        sentences.append(sentence)
    return sentences


def _by_depth(profile: pl.DataFrame, domain: str) -> list[str]:
    defined = profile.filter(pl.col("mean_cts").is_not_null()).sort("layer")
    if defined.height < 2:
        return []
    low, high = defined.row(0, named=True), defined.row(-1, named=True)
    sentence = (
        f"{domain_title(domain)}: mean CTS is {_number(low['mean_cts'])} at layer {low['layer']} "
        f"({_cells(low['ok_cells'])}) and {_number(high['mean_cts'])} at layer {high['layer']} "
        f"({_cells(high['ok_cells'])})"
    )
    half = defined.filter(pl.col("mean_cts") >= 0.5)
    if half.height and half["layer"][0] != low["layer"]:
        sentence += f"; the lowest layer where it is 0.5 or more is {half['layer'][0]}"
    return [sentence + "."]


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" + (f" ({100 * part / whole:.1f} %)" if whole else "")


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count:,} cells"


def _number(value: float) -> str:
    return f"{value:z.2f}".replace("-", "−")
