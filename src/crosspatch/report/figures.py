"""The figures on disk: training curves, depth profiles, accuracy under patching, heads, and one heatmap a prompt.

Each as PNG and PDF. Knows where they go and what they are called; how they look is in the modules `matplotlib_…`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from tqdm import tqdm

from crosspatch.files import written_whole
from crosspatch.report.curves import TrainingCurves
from crosspatch.report.head_map import HeadMap
from crosspatch.report.heatmap import Heatmap
from crosspatch.report.matplotlib_curves import search_figure, training_figure
from crosspatch.report.matplotlib_head_map import head_map_figure
from crosspatch.report.matplotlib_heatmap import heatmap_figure
from crosspatch.report.matplotlib_panels import panels_figure
from crosspatch.report.matplotlib_style import style
from crosspatch.report.panels import accuracy_panels, depth_panels
from crosspatch.report.problems import ProblemLike, domains_of, prompts_in
from crosspatch.results.summary import Summary
from crosspatch.results.variant import Variant, variants

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_figures(
    folder: Path,
    *,
    problems: Mapping[str, ProblemLike],
    scores: pl.DataFrame | None,
    training: pl.DataFrame | None,
    summary: Summary | None = None,
) -> list[Path]:
    """Writes whatever the frames allow and returns the paths; frames without rows give no figure.

    `summary` has intervals and controls; None: made here of the scores alone. Raises ValueError for a prompt that
    `problems` lacks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [] if training is None else _write_training(folder, training)
    summary = summary or Summary.of(domains_of(problems), scores=scores)
    paths += _write_head_maps(folder, summary.places)
    if scores is None:
        return paths
    if answered := accuracy_panels(summary.comparisons, summary.patched):
        paths += _save(folder, "accuracy", panels_figure(answered))
    found = variants(scores)
    for variant in found:
        rows = variant.rows(scores)
        suffix = "" if len(found) == 1 else f"-{_variant_slug(variant)}"
        paths += _save(folder, f"depth-profile{suffix}", panels_figure(depth_panels(summary.depth, variant)))
        for number, prompt_id in enumerate(tqdm(prompts_in(scores, problems), desc="figures"), start=1):
            if prompt_id in rows["prompt_id"]:
                heatmap = Heatmap.of(rows, prompt_id, variant=variant, question=problems[prompt_id].question)
                name = f"heatmap-{number:03d}-{slug(prompt_id)}{suffix}"
                paths += _save(folder, name, heatmap_figure(heatmap))
    return paths


def _write_training(folder: Path, training: pl.DataFrame) -> list[Path]:
    searched = pl.col("run").str.starts_with("variant-")
    curves, variants_of_search = (TrainingCurves.of(training.filter(which)) for which in (~searched, searched))
    paths = _save(folder, "training", training_figure(curves)) if curves.runs else []
    return paths + (_save(folder, "search", search_figure(variants_of_search)) if variants_of_search.runs else [])


def _write_head_maps(folder: Path, places: pl.DataFrame) -> list[Path]:
    heads = places.filter(component="head").select("domain", "direction", "extent").unique(maintain_order=True)
    paths: list[Path] = []
    for domain, direction, extent in heads.iter_rows():
        name = f"heads-{slug(f'{domain} {direction} {extent}')}"
        paths += _save(folder, name, head_map_figure(HeadMap.of(places, domain, direction, extent)))
    return paths


def slug(text: str) -> str:
    """What of a name may stand in a file name: a-z, 0-9 and single hyphens, at most 40 of them."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "prompt"


def _variant_slug(variant: Variant) -> str:
    return slug(f"{variant.component} {variant.direction} {variant.persistence}")


def _save(folder: Path, name: str, figure: Figure) -> list[Path]:
    paths = []
    for ending in ("png", "pdf"):
        path = folder / f"{name}.{ending}"
        # No date inside: the same scores give the same file.
        metadata = {"CreationDate": None} if ending == "pdf" else None
        with written_whole(path) as partial, style():
            figure.savefig(partial, format=ending, dpi=150, metadata=metadata)
        paths.append(path)
    return paths
