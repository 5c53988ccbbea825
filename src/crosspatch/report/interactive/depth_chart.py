"""The depth profile for a notebook: what transfers by layer with its controls, and how often the models disagree."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from crosspatch.patching.result import PatchResult
from crosspatch.report.interactive.panels import panels_figure
from crosspatch.report.interactive.style import for_notebook
from crosspatch.report.pictures.panels import depth_panels
from crosspatch.statistics.variant import Variant, chosen_variant, every_variant
from crosspatch.storage.run import RunDirectory
from crosspatch.storage.summary import Summary

# The domain of prompts of which nothing is known, as in a run of one's own prompts.
OWN = "prompts"


def depth_chart(
    of: RunDirectory | Summary | PatchResult | pl.DataFrame, *, variant: Variant | None = None
) -> go.Figure:
    """A panel of transfer for each domain, and one of disagreement; bands are 95 % intervals over prompts.

    Of a run, with its controls; of a result or of scores, all prompts as one domain. Raises ValueError where no single
    layer was patched, or in several ways and no variant was chosen.
    """
    if isinstance(of, RunDirectory):
        of = Summary.of_run(of)
    elif isinstance(of, PatchResult):
        of = of.scores
    if isinstance(of, pl.DataFrame):
        of = Summary.of(dict.fromkeys(of["prompt_id"].unique(), OWN), scores=of)
    if variant is None:
        variant = chosen_variant(every_variant(of.depth))
    panels = depth_panels(of.depth, variant)
    if not panels:
        raise ValueError(f"no single layer was patched as {variant.label}")
    return for_notebook(panels_figure(panels))
