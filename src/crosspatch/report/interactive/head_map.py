"""The layer × head picture drawn by plotly, for notebooks, with what is known of a head under the pointer."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from crosspatch.report.interactive.style import INK, LAYOUT, for_notebook
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.glyphs import plotly_name
from crosspatch.report.pictures.head_map import HeadMap, head_maps
from crosspatch.storage.run import RunDirectory
from crosspatch.storage.summary import Summary

_ROW, _FRAME = 22, 190
_RING = {"symbol": "circle-open", "size": 9, "line": {"width": 1.2}}


def head_map(
    of: RunDirectory | Summary | pl.DataFrame,
    domain: str | None = None,
    *,
    direction: str | None = None,
    extent: str = "text",
) -> go.Figure:
    """The heads of a run that was localised, or of a table of places; without `domain` those of the first.

    A ring marks heads that were measured; of the others the colour is the estimate by gradients. `extent` text is
    patched throughout the text, step at single steps. Raises ValueError where no heads were localised so.
    """
    if isinstance(of, RunDirectory):
        of = Summary.of_run(of)
    places = of.places if isinstance(of, Summary) else of
    found = [
        one
        for one in head_maps(places)
        if one.extent == extent and domain in (None, one.domain) and direction in (None, one.direction)
    ]
    if not found:
        asked = ", ".join(str(part) for part in (domain, direction, extent) if part is not None)
        raise ValueError(f"no heads were localised: {asked}; see `crosspatch localise`")
    return for_notebook(head_map_figure(found[0]))


def head_map_figure(found: HeadMap) -> go.Figure:
    """One cell a head, coloured by its transfer, cream at 0; layers upwards, heads rightwards."""
    exact = found.exact()
    how = dict.fromkeys(exact, "measured")
    figure = go.Figure()
    figure.add_heatmap(
        x=[str(head) for head in found.heads],
        y=[str(layer) for layer in found.layers],
        z=found.grid(),
        customdata=[
            [how.get((layer, head), "estimated by gradients") for head in found.heads] for layer in found.layers
        ],
        hovertemplate="<b>layer %{y}, head %{x}</b><br>transfer %{z:.3f}, %{customdata}<extra></extra>",
        colorscale=[[at, colour] for at, colour in palette.CTS_SCALE],
        zmin=-found.reach,
        zmax=found.reach,
        colorbar={"title": {"text": "transfer"}, "thickness": 12, "len": 1, "outlinewidth": 0},
        hoverongaps=False,
        xgap=1,
        ygap=1,
    )
    if exact:
        figure.add_scatter(
            x=[str(head) for _, head in exact],
            y=[str(layer) for layer, _ in exact],
            mode="markers",
            showlegend=False,
            marker={**_RING, "color": palette.MARK},
            hoverinfo="skip",
        )
        # Cells are light, and what is behind the legend may be dark: there the ring is of the letters' colour.
        ring = {**_RING, "color": INK}
        figure.add_scatter(x=[None], y=[None], mode="markers", name="measured", showlegend=True, marker=ring)
    axes = {"type": "category", "showgrid": False, "zeroline": False}
    figure.update_layout(
        **LAYOUT,
        title={"text": plotly_name(found.title, 120), "font": {"size": 13}},
        height=_ROW * len(found.layers) + _FRAME,
        xaxis={**axes, "title": {"text": "head"}, "categoryarray": [str(head) for head in found.heads]},
        yaxis={**axes, "title": {"text": "layer"}, "categoryarray": [str(layer) for layer in found.layers]},
        legend={"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container"},
    )
    return figure
