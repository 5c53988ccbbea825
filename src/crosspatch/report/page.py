"""The report: one HTML file that holds everything it shows and opens without a network.

Model output is escaped by the template, or travels packed and becomes text in the browser. A section without data says
so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from crosspatch.characters import legible
from crosspatch.data.problem import Problem
from crosspatch.report.explorer import MOST_CELLS, Explorer
from crosspatch.report.findings import behaviour_findings
from crosspatch.report.pictures.head_map import head_maps
from crosspatch.report.prompts import domains_of, prompts_in
from crosspatch.report.sections import accuracy_chart, depth_sections, heads_section, training_chart
from crosspatch.report.template import packed, percent, plotting, rendered, settings_tables, write_page
from crosspatch.report.token_tables import frequent_words, token_tables
from crosspatch.statistics.answers import output_health, table2, table2_rows
from crosspatch.statistics.domain import ordered_domains
from crosspatch.statistics.interval import Interval
from crosspatch.storage.summary import Summary


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
    """Writes the page and returns its path; any of the frames may be missing or empty.

    `run` is shown as it is (settings, versions, fingerprints): every mapping in it becomes a folded table. `summary`
    has intervals, controls and claims; None: made here of scores and answers alone. `texts` of tokens by id; None:
    those of tokens that were written are known. `refresh` are seconds after which the page loads itself anew.
    The page appears under its name only when it is complete.
    Raises ValueError for scores or generations of a prompt that `problems` lacks.
    """
    scores, generations, behaviour, training = map(_filled, (scores, generations, behaviour, training))
    summary = summary or Summary.of(domains_of(problems), scores=scores, behaviour=behaviour)
    rows = table2_rows(table2(behaviour)) if behaviour is not None else []
    depths = list(depth_sections(scores, problems, summary)) if scores is not None else []
    accuracy = accuracy_chart(summary)
    explorer = Explorer.of(problems, scores, generations, behaviour, texts)
    heads = heads_section(head_maps(summary.site_effects))
    curves = training_chart(training)
    charts = [*filter(None, (curves, accuracy)), *(depth.chart for depth in depths)]
    data = explorer.data | ({"heads": packed(heads)} if heads else {})
    for chart in charts:
        data |= chart.data
    data |= {"plotly": plotting()} if charts else {}
    page = rendered(
        "report",
        title=title,
        data=data,
        refresh=refresh,
        facts=_facts(scores, problems),
        run=settings_tables(run),
        unfinished=unfinished(run),
        rows=rows,
        domains=ordered_domains(domain for row in rows for domain in row.outcomes),
        claims=summary.claims,
        findings=behaviour_findings(rows),
        accuracy=accuracy,
        compared=_compared(summary),
        training=curves,
        malformed=_malformed(health),
        searched=[] if searched is None else searched.to_dicts(),
        depths=depths,
        tokens=token_tables(summary.tokens),
        words=frequent_words(summary.words),
        explorer=explorer,
        most_cells=MOST_CELLS,
        heads=heads,
        has_scores=scores is not None,
    )
    return write_page(path, page)


def _malformed(health: pl.DataFrame | None) -> dict[tuple[str, str | None], str]:
    """The malformed texts of each model or patch, such as "3/32"."""
    if health is None:
        return {}
    return {
        (row["condition"], row["patch"]): f"{round(row['malformed'] * row['texts'])}/{row['texts']}"
        for row in output_health(health).iter_rows(named=True)
    }


def _compared(summary: Summary) -> dict[tuple[str, str | None, str], str]:
    """Of each model and domain the interval of its right answers, and what it lost and gained against the clean one."""
    said = {}
    right = summary.comparisons.filter(outcome="correct")
    for row in right.sort(pl.col("against") == "clean").iter_rows(named=True):
        text = str(Interval.of_row(row))
        if row["against"] == "clean":
            text += f"; −{row['lost']} +{row['gained']} against clean, p = {row['p_value']:.2g}"
        said[row["condition"], row["patch"], row["domain"]] = text
    return said


def _filled(frame: pl.DataFrame | None) -> pl.DataFrame | None:
    return None if frame is None or frame.is_empty() else frame


def _facts(scores: pl.DataFrame | None, problems: Mapping[str, Problem]) -> list[tuple[str, str]]:
    if scores is None:
        return []
    layers = scores["layer"].drop_nulls().n_unique()
    differ = (scores["clean_token_id"] != scores["corrupted_token_id"]).mean()
    domains = {problems[prompt_id].domain for prompt_id in prompts_in(scores, problems)}
    return [
        (f"{scores['prompt_id'].n_unique():,}", "patched prompts in " + _count(len(domains), "domain")),
        (f"{layers:,}", "patched layers" if layers != 1 else "patched layer"),
        (f"{scores.height:,}", "patched steps"),
        (percent(differ if isinstance(differ, float) else None), "of them where the models disagree"),
        (f"{(scores['status'] == 'ok').sum():,}", "cells with a CTS"),
    ]


def unfinished(run: Mapping[str, Any]) -> list[str]:
    """What a run still lacks, as sentences out of its record; its report need not be made to be reported."""
    said = []
    for name, stage in run.get("stages", {}).items():
        state = stage.get("state")
        if name != "report" and state != "done":
            why = f": {stage['error']}" if stage.get("error") else ""
            said.append(legible(f"{name} is {state} (since {stage.get('at', 'an unknown time')}){why}"))
    return said


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
