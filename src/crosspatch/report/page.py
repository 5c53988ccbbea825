"""The report: one HTML file that holds everything it shows and opens without a network.

Model output is escaped by the template; figures travel as JSON in script elements of their own. Knows nothing
of how the numbers were made, and tolerates their absence: a section without data says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from crosspatch.report.answers import Answers
from crosspatch.report.curves import TrainingCurves
from crosspatch.report.findings import behaviour_findings, score_findings
from crosspatch.report.glyphs import legible, visible
from crosspatch.report.heatmap import LABELLED_STEPS, Heatmap, plotly_figure
from crosspatch.report.problems import ProblemLike, domains_of, prompts_in
from crosspatch.results.domain import domain_title, ordered_domains
from crosspatch.results.profile import depth_profile, prompt_profile
from crosspatch.results.table2 import table2, table2_rows
from crosspatch.results.variant import Variant, single_layers, variants

# So many prompts are unfolded when the page opens.
_UNFOLDED = 4


@dataclass(frozen=True)
class Chart:
    """A plotly figure on the page: its element's id, its JSON, and the width below which it scrolls."""

    id: str
    json: str
    height: int
    least_width: int = 0
    label: str = ""


@dataclass(frozen=True)
class Picture:
    """One variant's heatmap of a prompt, its notes and its numbers layer by layer."""

    variant: Variant
    chart: Chart
    notes: list[str]
    numbers: list[dict[str, Any]]


@dataclass(frozen=True)
class Prompt:
    """A prompt's part of the page."""

    id: str
    anchor: str
    domain: str
    problem: ProblemLike
    pictures: list[Picture]
    answers: Answers | None
    unfolded: bool


@dataclass(frozen=True)
class Depth:
    """One variant's depth profile and the same as numbers."""

    variant: Variant
    chart: Chart
    numbers: list[dict[str, Any]]
    findings: list[str]
    defined: bool


def write_report(
    path: Path,
    *,
    title: str,
    run: Mapping[str, Any],
    problems: Mapping[str, ProblemLike],
    scores: pl.DataFrame | None = None,
    generations: pl.DataFrame | None = None,
    behaviour: pl.DataFrame | None = None,
    training: pl.DataFrame | None = None,
) -> Path:
    """Writes the page and returns its path; any of the frames may be missing or empty.

    `run` is shown as it is (settings, versions, fingerprints): every mapping in it becomes a folded table.
    The page appears under its name only when it is complete.
    Raises ValueError for scores or generations of a prompt that `problems` lacks.
    """
    page = render_report(
        title=title,
        run=run,
        problems=problems,
        scores=scores,
        generations=generations,
        behaviour=behaviour,
        training=training,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A lone half of a surrogate pair has no UTF-8.
        unfinished.write_text(page, encoding="utf-8", errors="replace")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def render_report(
    *,
    title: str,
    run: Mapping[str, Any],
    problems: Mapping[str, ProblemLike],
    scores: pl.DataFrame | None,
    generations: pl.DataFrame | None,
    behaviour: pl.DataFrame | None,
    training: pl.DataFrame | None,
) -> str:
    """The page as a string."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    scores, generations, behaviour, training = map(_filled, (scores, generations, behaviour, training))
    rows = table2_rows(table2(behaviour)) if behaviour is not None else []
    depths = list(_depths(scores, problems)) if scores is not None else []
    prompts = list(_prompts(scores, generations, behaviour, problems))
    curves = _training_chart(training)
    charts = [
        *([curves] if curves else []),
        *(depth.chart for depth in depths),
        *(picture.chart for prompt in prompts for picture in prompt.pictures),
    ]
    environment = Environment(
        loader=PackageLoader("crosspatch", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "legible": legible,
        "number": _number,
        "percent": _percent,
        "domain": domain_title,
    }
    others = 0 if scores is None else scores.height - single_layers(scores).height
    return environment.get_template("report.html.j2").render(
        title=legible(title),
        facts=_facts(scores, problems),
        run=_sections(run),
        rows=rows,
        domains=ordered_domains(domain for row in rows for domain in row.outcomes),
        findings=behaviour_findings(rows),
        training=curves,
        depths=depths,
        prompts=prompts,
        has_scores=scores is not None,
        others=others,
        charts=charts,
        plotlyjs=_plotlyjs() if charts else None,
    )


def _filled(frame: pl.DataFrame | None) -> pl.DataFrame | None:
    return None if frame is None or frame.is_empty() else frame


def _training_chart(training: pl.DataFrame | None) -> Chart | None:
    if training is None:
        return None
    curves = TrainingCurves.of(training)
    if not curves.runs:
        return None
    from crosspatch.report.plotly_charts import training_figure

    return _chart("training", training_figure(curves), least_width=640, label="Training curves")


def _depths(scores: pl.DataFrame, problems: Mapping[str, ProblemLike]) -> Iterator[Depth]:
    from crosspatch.report.plotly_charts import depth_figure

    domains = domains_of(problems)
    for place, variant in enumerate(variants(scores)):
        profile = depth_profile(variant.rows(scores), domains)
        yield Depth(
            variant,
            _chart(f"depth-{place}", depth_figure(profile), least_width=900, label="Depth profile"),
            profile.to_dicts(),
            score_findings(scores, variant, domains),
            bool(profile["ok_cells"].sum()),
        )


def _prompts(
    scores: pl.DataFrame | None,
    generations: pl.DataFrame | None,
    behaviour: pl.DataFrame | None,
    problems: Mapping[str, ProblemLike],
) -> Iterator[Prompt]:
    # Prompts that were only answered, not patched, are in Table 2; their texts would bury the patched ones.
    shown = scores if scores is not None else generations
    if shown is None:
        return
    for place, prompt_id in enumerate(prompts_in(shown, problems)):
        answers = Answers.of(prompt_id, generations, behaviour) if generations is not None else None
        yield Prompt(
            id=visible(prompt_id, 80).replace("␣", " "),
            anchor=f"prompt-{place}",
            domain=problems[prompt_id].domain,
            problem=problems[prompt_id],
            pictures=list(_pictures(scores, prompt_id, problems[prompt_id], place))
            if scores is not None
            else [],
            answers=answers if answers and answers.any else None,
            unfolded=place < _UNFOLDED,
        )


def _pictures(scores: pl.DataFrame, prompt_id: str, problem: ProblemLike, place: int) -> Iterator[Picture]:
    own = scores.filter(pl.col("prompt_id") == prompt_id)
    for number, variant in enumerate(variants(own)):
        heatmap = Heatmap.of(own, prompt_id, variant=variant, question=problem.question)
        # Narrower columns than this could not carry the tokens under them.
        width = 150 + 8 * min(len(heatmap.steps), LABELLED_STEPS)
        label = f"Heatmap of {visible(prompt_id)}"
        chart = _chart(f"heatmap-{place}-{number}", plotly_figure(heatmap), least_width=width, label=label)
        yield Picture(variant, chart, heatmap.notes(), prompt_profile(variant.rows(own)).to_dicts())


def _chart(name: str, figure: Any, *, least_width: int, label: str) -> Chart:
    tree = figure.to_plotly_json()
    tree["layout"].pop("template", None)
    return Chart(name, _script_json(tree), int(figure.layout.height), least_width, label)


def _script_json(value: object) -> str:
    """JSON that may stand inside a script element: nothing in it can close the element or end a line."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False, default=list)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _plotlyjs() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _facts(scores: pl.DataFrame | None, problems: Mapping[str, ProblemLike]) -> list[tuple[str, str]]:
    if scores is None:
        return []
    layers = scores["layer"].drop_nulls().n_unique()
    differ = (scores["clean_token_id"] != scores["corrupted_token_id"]).mean()
    domains = {problems[prompt_id].domain for prompt_id in prompts_in(scores, problems)}
    return [
        (f"{scores['prompt_id'].n_unique():,}", "patched prompts in " + _count(len(domains), "domain")),
        (f"{layers:,}", "patched layers" if layers != 1 else "patched layer"),
        (f"{scores.height:,}", "patched steps"),
        (_percent(differ if isinstance(differ, float) else None), "of them where the models disagree"),
        (f"{(scores['status'] == 'ok').sum():,}", "cells with a CTS"),
    ]


def _sections(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The run as tables: its single values first, then one for each mapping in it, keys joined by dots."""
    single = [(str(key), value) for key, value in run.items() if not isinstance(value, Mapping)]
    tables: list[tuple[str, Mapping[str, Any]]] = [("run", dict(single))] if single else []
    tables += [(str(key), value) for key, value in run.items() if isinstance(value, Mapping)]
    return [
        (legible(name), [(legible(key), legible(text)) for key, text in _flat(tree)]) for name, tree in tables
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"{prefix}{key}", text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
