"""The report: one HTML file that holds everything it shows and opens without a network.

The template escapes what models wrote, or it travels packed and becomes text in the browser. A section without data
states that it has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from crosspatch.characters import legible
from crosspatch.data.problem import Problem
from crosspatch.report.explorer import MOST_CELLS, Explorer
from crosspatch.report.findings import behaviour_findings, score_findings
from crosspatch.report.interactive import Chart
from crosspatch.report.pictures.head_map import head_maps
from crosspatch.report.pictures.panels import accuracy_panels, depth_panels, training_panels
from crosspatch.report.prompts import domains_of, prompts_in
from crosspatch.report.tables import (
    AnswerTable,
    depth_table,
    percent,
    token_tables,
    variants_table,
    words_table,
)
from crosspatch.report.template import rendered, settings_tables, write_page
from crosspatch.statistics.answers import output_health, table2, table2_rows
from crosspatch.statistics.claim import counted
from crosspatch.statistics.interval import Interval
from crosspatch.statistics.patch_mode import modes
from crosspatch.statistics.profile import depth_profile
from crosspatch.storage.summary import Summary

# Above this number of patched models, Table 2 folds their rows.
_MOST_PATCHED = 12


def write_report(
    path: Path,
    *,
    title: str,
    run: Mapping[str, Any],
    problems: Mapping[str, Problem],
    scores: pl.DataFrame | None = None,
    generations: pl.DataFrame | None = None,
    behaviour: pl.DataFrame | None = None,
    training: pl.DataFrame | None = None,
    health: pl.DataFrame | None = None,
    searched: pl.DataFrame | None = None,
    summary: Summary | None = None,
    texts: Mapping[int, str] | None = None,
    refresh: int | None = None,
) -> Path:
    """Write the page and return its path; any of the frames may be missing or empty.

    Every mapping in `run` (settings, versions, fingerprints) becomes a folded table. `summary` has intervals, controls
    and claims; None: computed here from scores and answers alone. `texts` of tokens by id; None: only generated
    tokens have a text. The page reloads every `refresh` seconds. The file appears only when it is complete.
    Raises ValueError for scores or generations of a prompt that `problems` lacks.
    """
    scores, generations, behaviour, training = (
        None if frame is None or frame.is_empty() else frame for frame in (scores, generations, behaviour, training)
    )
    summary = summary or Summary.of(domains_of(problems), scores=scores, behaviour=behaviour)
    rows = table2_rows(table2(behaviour)) if behaviour is not None else []
    patched = [row for row in rows if row.patch] if sum(bool(row.patch) for row in rows) > _MOST_PATCHED else []
    compared, malformed = _compared(summary), _malformed(health)
    whole = [row for row in rows if not (patched and row.patch)]
    accuracy = accuracy_panels(summary.comparisons, summary.patched)
    losses = [] if training is None else training_panels(training)
    page = rendered(
        "report",
        title=title,
        refresh=refresh,
        facts=_facts(scores, problems),
        run=settings_tables(run),
        unfinished=unfinished(run),
        answers=AnswerTable.of(whole, "table 2", compared, malformed) if rows else None,
        patched=AnswerTable.of(patched, "table 2, patched models", compared, malformed) if patched else None,
        malformed=bool(malformed),
        claims=summary.claims,
        verdicts=counted(claim.verdict for claim in summary.claims),
        findings=behaviour_findings(rows),
        accuracy=Chart("accuracy", "Accuracy under patching", accuracy, 640) if accuracy else None,
        training=Chart("training-curves", "Training curves", losses, 640) if losses else None,
        searched=None if searched is None or searched.is_empty() else variants_table(searched),
        depths=[] if scores is None else list(_depths(scores, problems, summary)),
        tokens=list(token_tables(summary.tokens)),
        words=words_table(summary.words),
        explorer=Explorer.of(problems, scores, generations, behaviour, texts),
        most_cells=MOST_CELLS,
        heads=[found.data for found in head_maps(summary.site_effects)],
        has_scores=scores is not None,
    )
    return write_page(path, page)


def _depths(scores: pl.DataFrame, problems: Mapping[str, Problem], summary: Summary) -> Iterator[dict[str, Any]]:
    """Each mode's depth profile: its chart, the same as numbers, sentences about it, and whether any cell has a CTS."""
    domains = domains_of(problems)
    for place, mode in enumerate(modes(scores)):
        profile = depth_profile(mode.rows(scores), domains)
        panels = depth_panels(summary.depth, mode)
        # The scores of a run in progress may be newer than its summary.
        if panels:
            yield {
                "mode": mode,
                "chart": Chart(f"depth-{place}", f"Depth profile, {mode.label}", panels),
                "numbers": depth_table(profile, f"depth {mode.label}"),
                "findings": score_findings(scores, mode, domains),
                "defined": profile["ok_cells"].sum() > 0,
            }


def _malformed(health: pl.DataFrame | None) -> dict[tuple[str, str | None], str]:
    """The malformed texts of each model or patch, such as "3/32"."""
    if health is None:
        return {}
    return {
        (row["condition"], row["patch"]): f"{round(row['malformed'] * row['texts'])}/{row['texts']}"
        for row in output_health(health).iter_rows(named=True)
    }


def _compared(summary: Summary) -> dict[tuple[str, str | None, str], str]:
    """The interval of each model's accuracy by domain, and the answers it lost and gained against the clean model."""
    texts = {}
    right = summary.comparisons.filter(outcome="correct")
    for row in right.sort(pl.col("against") == "clean").iter_rows(named=True):
        text = str(Interval.of_row(row))
        if row["against"] == "clean":
            text += f"; −{row['lost']} +{row['gained']} against clean, p = {row['p_value']:.2g}"
        texts[row["condition"], row["patch"], row["domain"]] = text
    return texts


def _facts(scores: pl.DataFrame | None, problems: Mapping[str, Problem]) -> list[tuple[str, str]]:
    if scores is None:
        return []
    layers = scores["layer"].drop_nulls().n_unique()
    differ = (scores["clean_token_id"] != scores["corrupted_token_id"]).mean()
    domains = len({problems[prompt_id].domain for prompt_id in prompts_in(scores, problems)})
    return [
        (f"{scores['prompt_id'].n_unique():,}", f"patched prompts in {domains:,} domain{'' if domains == 1 else 's'}"),
        (f"{layers:,}", "patched layers" if layers != 1 else "patched layer"),
        (f"{scores.height:,}", "patched steps"),
        (percent(differ if isinstance(differ, float) else None), "of them where the models disagree"),
        (f"{(scores['status'] == 'ok').sum():,}", "cells with a CTS"),
    ]


def unfinished(run: Mapping[str, Any]) -> list[str]:
    """A sentence for each stage that a run has not finished, except the stage `report` itself."""
    sentences = []
    for name, stage in run.get("stages", {}).items():
        state = stage.get("state")
        if name != "report" and state != "done":
            why = f": {stage['error']}" if stage.get("error") else ""
            sentences.append(legible(f"{name} is {state} (since {stage.get('at', 'an unknown time')}){why}"))
    return sentences
