"""Pictures for notebooks: the explorer of one prompt, the heads of a model, the depth profile.

The first two are parts of the report in a page of their own, which loads nothing; the last is a plotly chart.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import plotly.graph_objects as go
import polars as pl

from crosspatch.data.problem import Problem
from crosspatch.patching.result import PatchResult
from crosspatch.report.explorer import Explorer
from crosspatch.report.interactive import for_notebook, panels_figure
from crosspatch.report.pictures.head_map import head_maps
from crosspatch.report.pictures.heatmap import Heatmap
from crosspatch.report.pictures.panels import depth_panels
from crosspatch.report.template import rendered, write_page
from crosspatch.statistics.patch_mode import PatchMode, chosen_mode, every_mode
from crosspatch.storage.run import RunDirectory
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, GENERATIONS, SCORES

# The domain of prompts without a problem, such as the user's own prompts.
OWN = "prompts"
# Pixels of a row, of everything above and below the rows, and of the highest frame, which scrolls.
_ROW, _AROUND, _HIGHEST = 18, 560, 900


@dataclass(frozen=True)
class Picture:
    """A picture with its controls, as a separate HTML page; a notebook shows it in a frame.

    The frame may run the page's scripts and save its tables. It has no access to the notebook.
    """

    title: str
    rows: int
    html: str = field(repr=False)

    def write_html(self, path: Path | str) -> Path:
        """Write the page, which loads nothing, and return its path."""
        return write_page(Path(path), self.html)

    def _repr_html_(self) -> str:
        height = min(_HIGHEST, _AROUND + _ROW * self.rows)
        look = f"width:100%;height:{height}px;border:0;resize:vertical"
        sandbox = "allow-scripts allow-downloads"
        page = html.escape(self.html)
        return f'<iframe title="{html.escape(self.title)}" sandbox="{sandbox}" style="{look}" srcdoc="{page}"></iframe>'


def heatmap(
    of: PatchResult | RunDirectory | pl.DataFrame,
    prompt_id: str | None = None,
    *,
    mode: PatchMode | None = None,
    texts: Mapping[int, str] | None = None,
) -> Picture:
    """The heatmap and the texts of one prompt (None: the first) of a result, a run or a table of scores.

    Results and runs know the texts of all generated and predicted tokens; for a table of scores, `texts` may give them
    by id. Raises ValueError if the prompt has no scores, or has several modes and none was chosen.
    """
    problems: Mapping[str, Problem] = {}
    known: Mapping[int, str] = {}
    generations = behaviour = None
    if isinstance(of, RunDirectory):
        scores, generations, behaviour = (of.read(table) for table in (SCORES, GENERATIONS, BEHAVIOUR))
        problems, known = of.asked(), of.vocabulary() or {}
    elif isinstance(of, PatchResult):
        scores, generations, known = of.scores, of.generations, of.vocabulary
    else:
        scores = of
    drawn = Heatmap.of(scores, prompt_id, mode=mode)
    prompt_id = drawn.prompt_id
    scores = scores.filter(prompt_id=prompt_id)
    written = dict(scores.select("token_id", "token").iter_rows())
    explorer = Explorer.of(
        {prompt_id: problems.get(prompt_id, Problem(prompt_id, OWN, OWN, prompt_id, ""))},
        scores,
        generations,
        behaviour,
        {**known, **(texts or {}), **written},
        modes=[drawn.mode],
    )
    title = f"Heatmap of {prompt_id}"
    return Picture(title, len(drawn.layers), rendered("picture", title=title, explorer=explorer, heads=[]))


def head_map(
    of: RunDirectory | Summary | pl.DataFrame,
    domain: str | None = None,
    *,
    direction: str | None = None,
    positions: str = "all",
) -> Picture:
    """The heads of a localised run, of a summary or of a table of site effects, of one domain (None: the first).

    A ring marks measured heads; the colour of other heads is the estimate by gradients. `positions` is all (patched at
    all positions) or current. Raises ValueError if there are no such heads.
    """
    if isinstance(of, RunDirectory):
        of = Summary.of_run(of)
    table = of.site_effects if isinstance(of, Summary) else of
    found = [
        one
        for one in head_maps(table)
        if one.positions == positions and domain in (None, one.domain) and direction in (None, one.direction)
    ]
    if not found:
        asked = ", ".join(str(part) for part in (domain, direction, positions) if part is not None)
        raise ValueError(f"no heads were localised: {asked}; see `crosspatch localise`")
    title, layers = found[0].title, len(found[0].layers)
    return Picture(title, layers, rendered("picture", title=title, explorer=None, heads=[found[0].data]))


def depth_chart(of: RunDirectory | Summary | PatchResult | pl.DataFrame, *, mode: PatchMode | None = None) -> go.Figure:
    """A panel of the recovered fraction for each domain, and one of disagreement, with 95 % intervals over prompts.

    A run has its controls too; all prompts of a result or of scores are one domain. Raises ValueError if no single
    layer was patched, or if there are several modes and none was chosen.
    """
    if isinstance(of, RunDirectory):
        of = Summary.of_run(of)
    elif isinstance(of, PatchResult):
        of = of.scores
    if isinstance(of, pl.DataFrame):
        of = Summary.of(dict.fromkeys(of["prompt_id"].unique(), OWN), scores=of)
    if mode is None:
        mode = chosen_mode(every_mode(of.depth))
    panels = depth_panels(of.depth, mode)
    if not panels:
        raise ValueError(f"no single layer was patched as {mode.label}")
    return for_notebook(panels_figure(panels))
