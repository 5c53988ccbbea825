"""The figure files: training curves, depth profiles, accuracy under patching, heads, and heatmaps of prompts.

Each figure is written as PNG and PDF, as wide as a column and as a page. The published figures are redrawn too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from tqdm import tqdm

from crosspatch.data.problem import Problem
from crosspatch.files import written_whole
from crosspatch.report.pictures.head_map import head_maps
from crosspatch.report.pictures.heatmap import Heatmap
from crosspatch.report.pictures.panels import accuracy_panels, depth_panels, search_panels, training_panels
from crosspatch.report.print.heatmap import FIGURES, PUBLISHED, head_map_figure, heatmap_figure, paper_heatmap_figure
from crosspatch.report.print.panels import panels_figure
from crosspatch.report.print.style import SIZES, Size, style
from crosspatch.report.prompts import Selection, domains_of, prompts_in
from crosspatch.statistics.patch_mode import PatchMode, modes
from crosspatch.storage.summary import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The most prompts with a heatmap, each of which takes a second or two.
MOST_HEATMAPS = 12
# The name of a figure, and a function that draws it at a size.
Drawing = tuple[str, Callable[[Size], "Figure"]]

# All names that write_figures gives or gave. Other files with such names belong to an earlier report.
_OURS = re.compile(
    r"(training|search|accuracy|depth-profile(-[a-z0-9-]+-(transient|persistent)[a-z0-9-]*)?"
    r"|heads-[a-z0-9-]+-(all|current|text|step)|heatmap-\d{3,}-[a-z0-9-]+|paper-figure-[2-5])(-(column|page))?\.(png|pdf)"
)


def write_figures(
    folder: Path,
    *,
    problems: Mapping[str, Problem],
    scores: pl.DataFrame | None,
    training: pl.DataFrame | None,
    summary: Summary | None = None,
) -> list[Path]:
    """Write the figures that the frames allow and return their paths; frames without rows give no figure.

    `summary` has intervals and controls; None: computed here from the scores alone. The first prompts of each domain
    have heatmaps. Figures of an earlier report are removed; files with other names stay.
    Raises ValueError for a prompt that `problems` lacks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = summary or Summary.of(domains_of(problems), scores=scores)
    drawings = [*_of_training(training), *_of_summary(summary, scores)]
    if scores is not None:
        drawings += _of_prompts(scores, problems)
    paths = [
        path
        for name, draw in tqdm(drawings, desc="figures")
        for size in SIZES
        for path in _save(folder, name, draw, size)
    ]
    for path in set(folder.iterdir()) - set(paths):
        if _OURS.fullmatch(path.name) and path.is_file():
            path.unlink()
    return paths


def _of_training(training: pl.DataFrame | None) -> Iterator[Drawing]:
    if training is None:
        return
    searched = training.filter(variant := pl.col("run").str.starts_with("variant-"))
    for name, panels in (
        ("training", training_panels(training.filter(~variant))),
        ("search", search_panels(searched)),
        ("paper-figure-2", search_panels(searched, ("Training loss", "Validation loss"))),
    ):
        if panels:
            yield name, partial(panels_figure, panels)


def _of_summary(summary: Summary, scores: pl.DataFrame | None) -> Iterator[Drawing]:
    for heads in head_maps(summary.site_effects):
        yield f"heads-{slug(f'{heads.domain} {heads.direction} {heads.positions}')}", partial(head_map_figure, heads)
    answered = accuracy_panels(summary.comparisons, summary.patched)
    if answered:
        yield "accuracy", partial(panels_figure, answered)
    if scores is None:
        return
    for mode, suffix in _suffixes(scores).items():
        if panels := depth_panels(summary.depth, mode):
            yield f"depth-profile{suffix}", partial(panels_figure, panels)


def _of_prompts(scores: pl.DataFrame, problems: Mapping[str, Problem]) -> Iterator[Drawing]:
    prompts = prompts_in(scores, problems)
    first = {domain: next((p for p in prompts if problems[p].domain == domain), None) for domain in FIGURES}
    suffixes = _suffixes(scores)
    chosen = set(Selection.of(prompts, problems, MOST_HEATMAPS, dict.fromkeys(prompts, len(suffixes))).shown)
    some = scores.filter(pl.col("prompt_id").is_in(chosen))
    for mode, suffix in suffixes.items():
        rows = mode.rows(some).partition_by("prompt_id", as_dict=True)
        for number, prompt_id in enumerate(prompts, start=1):
            if (prompt_id,) not in rows:
                continue
            problem = problems[prompt_id]
            heatmap = Heatmap.of(rows[prompt_id,], prompt_id, mode=mode, question=problem.question)
            name = f"heatmap-{number:03d}-{slug(prompt_id)}{suffix}"
            yield name, partial(heatmap_figure, heatmap)
            if mode == PUBLISHED and first.get(problem.domain) == prompt_id:
                name = f"paper-figure-{FIGURES[problem.domain]}"
                yield name, partial(paper_heatmap_figure, heatmap)


def _suffixes(scores: pl.DataFrame) -> dict[PatchMode, str]:
    """The endings of the names of each mode's figures; equal endings are numbered."""
    found = modes(scores)
    if len(found) < 2:
        return dict.fromkeys(found, "")
    suffixes: dict[PatchMode, str] = {}
    for mode in found:
        schedule = "" if mode.schedule == "all" else f"-{slug(mode.schedule)}"
        suffix = f"-{slug(f'{mode.component} {mode.direction} {mode.persistence}')}{schedule}"
        alike = sum(other.startswith(suffix) for other in suffixes.values())
        suffixes[mode] = f"{suffix}-{alike + 1}" if suffix in suffixes.values() else suffix
    return suffixes


def slug(text: str) -> str:
    """A name as part of a file name: a-z, 0-9 and single hyphens, at most 40 characters."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "prompt"


def _save(folder: Path, name: str, draw: Callable[[Size], Figure], size: Size) -> list[Path]:
    figure, paths = draw(size), []
    for ending in ("png", "pdf"):
        path = folder / f"{name}-{size.name}.{ending}"
        # Without a date, the same scores give the same file.
        metadata = {"CreationDate": None} if ending == "pdf" else None
        with written_whole(path) as partial, style():
            figure.savefig(partial, format=ending, metadata=metadata)
        # Both files share the layout, which takes as long as drawing.
        figure.set_layout_engine("none")
        paths.append(path)
    return paths
