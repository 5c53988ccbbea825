"""The heatmap drawn by plotly, with everything known about a cell under the pointer.

Knows nothing of the page, which draws its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
import polars as pl

from crosspatch.patching.result import PatchResult
from crosspatch.report.interactive.style import LAYOUT, for_notebook
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.glyphs import plotly_label, plotly_text, tick_label
from crosspatch.report.pictures.heatmap import CTS_RANGE, LABELLED_STEPS, Cell, Heatmap
from crosspatch.statistics.variant import Variant
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import SCORES

# A bare %{x} would be the label under the axis, which is a token; with a format it is the step.
_WHERE = "<b>layer %{y}, step %{x:d}</b><br>generated %{customdata[0]}<br>"
_DISTANCE = (
    "<br>KL to corrupted: clean %{customdata[1]}, patched %{customdata[2]}"
    "<br>rank of the corrupted token %{customdata[3]}<extra></extra>"
)
_DEFINED = (
    _WHERE + "%{customdata[4]}<br>ΔL clean %{customdata[5]}, corrupted %{customdata[6]}, patched %{customdata[7]}"
    "<br><b>CTS %{customdata[8]}</b>, ok" + _DISTANCE
)
_UNDEFINED = _WHERE + "%{customdata[4]}<br><b>CTS undefined</b>" + _DISTANCE
_TICKS = [-1.5, -1, -0.5, 0, 0.5, 1, 1.5]


def heatmap(
    of: PatchResult | RunDirectory | pl.DataFrame,
    prompt_id: str | None = None,
    *,
    variant: Variant | None = None,
    texts: Mapping[int, str] | None = None,
) -> go.Figure:
    """One prompt's heatmap for a notebook, of a result, a run or a table of scores; without `prompt_id` the first's.

    Results and runs know the texts of all tokens that a model wrote or wanted; of a table of scores `texts` may give
    them, by id. Raises ValueError where the prompt has no scores, or several variants and none was chosen.
    """
    known: Mapping[int, str] = {}
    if isinstance(of, RunDirectory):
        scores, known = of.read(SCORES), of.vocabulary() or {}
    elif isinstance(of, PatchResult):
        scores, known = of.scores, of.vocabulary
    else:
        scores = of
    drawn = Heatmap.of(scores, prompt_id, variant=variant)
    return for_notebook(heatmap_figure(drawn, {**known, **(texts or {})}))


def heatmap_figure(heatmap: Heatmap, texts: Mapping[int, str] | None = None) -> go.Figure:
    """One prompt's heatmap: colour where CTS is defined, greys where it is not, nothing beyond its text.

    `texts` of tokens by id are shown for those that a model wanted and no layer wrote.
    """
    grid, layers, steps = heatmap.grid(), heatmap.layers, heatmap.steps
    y = [str(layer) for layer in layers]
    wanted = {cell[key] for row in grid for cell in row if cell for key in ("clean_token_id", "corrupted_token_id")}
    names = {token_id: plotly_label(text) for token_id, text in (texts or {}).items() if token_id in wanted}
    names |= {cell["token_id"]: plotly_label(cell["token"]) for row in grid for cell in row if cell}
    figure = go.Figure()
    grey = {"agree": 0, "small_denominator": 1}
    agree, small = palette.AGREE, palette.SMALL_DENOMINATOR
    figure.add_heatmap(
        x=steps,
        y=y,
        z=[[grey.get(cell["status"]) if cell else None for cell in row] for row in grid],
        customdata=[[_undefined(cell, names) if cell and cell["status"] in grey else None for cell in r] for r in grid],
        hovertemplate=_UNDEFINED,
        colorscale=[[0, agree], [0.5, agree], [0.5, small], [1, small]],
        zmin=0,
        zmax=1,
        showscale=False,
        hoverongaps=False,
        xgap=1,
        ygap=1,
    )
    figure.add_heatmap(
        x=steps,
        y=y,
        z=[[round(cell["cts"], 3) if cell and cell["cts"] is not None else None for cell in row] for row in grid],
        customdata=[[_defined(cell, names) if cell and cell["status"] == "ok" else None for cell in r] for r in grid],
        hovertemplate=_DEFINED,
        colorscale=[[at, colour] for at, colour in palette.CTS_SCALE],
        zmin=-CTS_RANGE,
        zmax=CTS_RANGE,
        colorbar={"title": {"text": "CTS"}, "thickness": 12, "len": 1, "outlinewidth": 0, "tickvals": _TICKS},
        hoverongaps=False,
        xgap=1,
        ygap=1,
    )
    small_cells = [cell for row in grid for cell in row if cell and cell["status"] == "small_denominator"]
    beyond = heatmap.beyond()
    above, below = [c for c in beyond if c["cts"] > 0], [c for c in beyond if c["cts"] < 0]
    # The marks are on a second x axis, drawn above the cells, which also has the step numbers at the top.
    # An axis without a trace is not drawn: hence the empty one.
    figure.add_scatter(
        x=[None],
        y=[None],
        xaxis="x2",
        mode="markers",
        marker={"symbol": "square", "size": 10, "color": agree},
        name="both models want the same token",
        showlegend=True,
    )
    _marks(figure, small_cells, "line-ne-open", "difference too small", color=palette.MARK)
    _marks(figure, above, "triangle-up", f"above +{CTS_RANGE}")
    _marks(figure, below, "triangle-down", f"below −{CTS_RANGE}")
    ticks = _token_ticks(heatmap)
    figure.update_layout(
        **LAYOUT,
        height=max(260, 19 * len(layers) + 210),
        xaxis={**ticks, "range": [steps[0] - 0.5, steps[-1] + 0.5], "showgrid": False, "zeroline": False},
        xaxis2={
            "matches": "x",
            "overlaying": "x",
            "side": "top",
            "tickmode": "linear",
            "tick0": 0,
            "dtick": 1 if len(steps) <= 20 else 10 ** max(1, len(str(len(steps))) - 2),
            "showgrid": False,
            "zeroline": False,
            "title": {"text": "generation step", "standoff": 4},
        },
        yaxis={"type": "category", "title": {"text": "layer"}, "showgrid": False, "categoryarray": y},
        legend={"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container"},
    )
    return figure


def _token_ticks(heatmap: Heatmap) -> dict[str, Any]:
    title = f"tokens of layer {heatmap.layers[-1]}’s own text; other layers may differ: see under the pointer"
    if len(heatmap.steps) > LABELLED_STEPS:
        return {"showticklabels": False, "title": {"text": "tokens: see under the pointer"}}
    tokens = heatmap.reference_tokens
    return {
        "tickmode": "array",
        "tickvals": list(tokens),
        "ticktext": [plotly_text(tick_label(token)) for token in tokens.values()],
        "tickangle": -90,
        "tickfont": {"size": 8.5, "family": "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"},
        "title": {"text": title, "standoff": 8},
        "automargin": True,
    }


def _marks(
    figure: go.Figure,
    cells: list[Cell],
    symbol: str,
    name: str,
    *,
    color: str = "#ffffff",
) -> None:
    if cells:
        figure.add_scatter(
            x=[cell["step"] for cell in cells],
            y=[str(cell["layer"]) for cell in cells],
            xaxis="x2",
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 7, "color": color, "line": {"width": 1, "color": palette.MARK}},
            hoverinfo="skip",
        )


def _defined(cell: Cell, names: dict[int, str]) -> list[str]:
    numbers = (_number(cell[key]) for key in ("delta_clean", "delta_corrupted", "delta_patched", "cts"))
    return [*_known(cell, names), _wanted(cell, names), *numbers]


def _undefined(cell: Cell, names: dict[int, str]) -> list[str]:
    if cell["status"] == "agree":
        # Most cells of a page are of this kind: few words keep it small.
        alike = cell["clean_token_id"] == cell["token_id"]
        wanted = "it" if alike else _token(cell["clean_token_id"], names)
        return [*_known(cell, names), f"agree: both models want {wanted}"]
    deltas = ", ".join(f"{model} {_number(cell[f'delta_{model}'])}" for model in ("clean", "corrupted", "patched"))
    return [
        *_known(cell, names),
        f"{_wanted(cell, names)}<br>ΔL {deltas}<br>small_denominator: too close to divide",
    ]


def _known(cell: Cell, names: dict[int, str]) -> list[str]:
    rank = cell["rank_corrupted"]
    return [
        _token(cell["token_id"], names),
        _number(cell["kl_clean"]),
        _number(cell["kl_patched"]),
        "unknown" if rank is None else str(rank),
    ]


def _wanted(cell: Cell, names: dict[int, str]) -> str:
    clean, corrupted = (_token(cell[f"{model}_token_id"], names) for model in ("clean", "corrupted"))
    return f"clean wants {clean}<br>corrupted wants {corrupted}"


def _token(token_id: int, names: dict[int, str]) -> str:
    # Without a vocabulary the text of a wanted token is known only where some layer wrote it.
    return f"{names[token_id]} (id {token_id})" if token_id in names else f"id {token_id}"


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "unknown" if value is None else str(value)
    return f"{value:.3g}".replace("-", "−")
