"""The sections of the page that have charts: training curves, depth profiles, and prompt by prompt.

Everything that the template shows of them, ready to be escaped and placed; figures are JSON that may stand
inside a script element. Knows nothing of the template, nor of the other sections.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.report.answers import Answers
from crosspatch.report.curves import TrainingCurves
from crosspatch.report.findings import score_findings
from crosspatch.report.glyphs import visible
from crosspatch.report.heatmap import LABELLED_STEPS, Heatmap
from crosspatch.report.panels import accuracy_panels, depth_panels
from crosspatch.report.plotly_curves import training_figure
from crosspatch.report.plotly_heatmap import heatmap_figure
from crosspatch.report.plotly_panels import panels_figure
from crosspatch.report.problems import ProblemLike, domains_of, prompts_in
from crosspatch.results.profile import depth_profile, prompt_profile
from crosspatch.results.summary import Summary
from crosspatch.results.variant import Variant, variants

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


def training_chart(training: pl.DataFrame | None) -> Chart | None:
    """The training curves; None where there are none to draw."""
    if training is None:
        return None
    curves = TrainingCurves.of(training)
    if not curves.runs:
        return None
    return _chart("training", training_figure(curves), least_width=640, label="Training curves")


def accuracy_chart(summary: Summary) -> Chart | None:
    """Right answers under patching, by layer; None where no single layer was patched."""
    panels = accuracy_panels(summary.comparisons, summary.patched)
    if not panels:
        return None
    return _chart("accuracy", panels_figure(panels), least_width=640, label="Accuracy under patching")


def depth_sections(scores: pl.DataFrame, problems: Mapping[str, ProblemLike], summary: Summary) -> Iterator[Depth]:
    """A depth profile for each variant."""
    domains = domains_of(problems)
    for place, variant in enumerate(variants(scores)):
        profile = depth_profile(variant.rows(scores), domains)
        yield Depth(
            variant,
            _chart(
                f"depth-{place}",
                panels_figure(depth_panels(summary.depth, variant)),
                least_width=700,
                label="Depth profile",
            ),
            profile.to_dicts(),
            score_findings(scores, variant, domains),
            bool(profile["ok_cells"].sum()),
        )


def prompt_sections(
    scores: pl.DataFrame | None,
    generations: pl.DataFrame | None,
    behaviour: pl.DataFrame | None,
    problems: Mapping[str, ProblemLike],
) -> Iterator[Prompt]:
    """The prompts that were patched, or, where none was, those that were answered."""
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
            pictures=list(_pictures(scores, prompt_id, problems[prompt_id], place)) if scores is not None else [],
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
        chart = _chart(f"heatmap-{place}-{number}", heatmap_figure(heatmap), least_width=width, label=label)
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
