"""The figures on disk: training curves, depth profile and one heatmap a prompt, each as PNG and PDF.

Knows where they go and what they are called; how they look is in `matplotlib_heatmap` and
`matplotlib_curves`.
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
from crosspatch.report.heatmap import Heatmap
from crosspatch.report.matplotlib_curves import depth_figure, search_figure, training_figure
from crosspatch.report.matplotlib_heatmap import heatmap_figure
from crosspatch.report.matplotlib_style import style
from crosspatch.report.problems import ProblemLike, domains_of, prompts_in
from crosspatch.results.profile import depth_profile
from crosspatch.results.variant import Variant, variants

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_figures(
    folder: Path,
    *,
    problems: Mapping[str, ProblemLike],
    scores: pl.DataFrame | None,
    training: pl.DataFrame | None,
) -> list[Path]:
    """Writes whatever the frames allow and returns the paths; frames without rows give no figure.

    Raises ValueError for a prompt that `problems` lacks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    if training is not None:
        searched = pl.col("run").str.starts_with("variant-")
        curves, variants_of_search = (TrainingCurves.of(training.filter(which)) for which in (~searched, searched))
        if curves.runs:
            paths += _save(folder, "training", training_figure(curves))
        if variants_of_search.runs:
            paths += _save(folder, "search", search_figure(variants_of_search))
    if scores is None:
        return paths
    found = variants(scores)
    for variant in found:
        rows = variant.rows(scores)
        suffix = "" if len(found) == 1 else f"-{_variant_slug(variant)}"
        profile = depth_profile(rows, domains_of(problems))
        paths += _save(folder, f"depth-profile{suffix}", depth_figure(profile))
        for number, prompt_id in enumerate(tqdm(prompts_in(scores, problems), desc="figures"), start=1):
            if prompt_id in rows["prompt_id"]:
                heatmap = Heatmap.of(rows, prompt_id, variant=variant, question=problems[prompt_id].question)
                name = f"heatmap-{number:03d}-{slug(prompt_id)}{suffix}"
                paths += _save(folder, name, heatmap_figure(heatmap))
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
