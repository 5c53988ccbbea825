"""Lines over layers drawn by plotly. Knows nothing of the page."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from crosspatch.report.interactive.style import LAYOUT
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.glyphs import plotly_name
from crosspatch.report.pictures.panels import Line, Panel

_DASHES = {"main": "solid", "beside": "dot", "control": "dash"}
_PANEL_HEIGHT = 330


def panels_figure(panels: Sequence[Panel]) -> go.Figure:
    """Panels side by side, two in a row, intervals as bands; a click on the legend hides a line and its band."""
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[plotly_name(panel.title, 80) for panel in panels],
        horizontal_spacing=0.08,
        vertical_spacing=0.24 / rows,
    )
    named: set[str] = set()
    for place, panel in enumerate(panels):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        for line in panel.lines:
            if line.defined:
                _add(figure, panel, line, at, named)
        if not panel.defined:
            # Axes without a trace are not drawn, and what is said in their frame would stand in another one.
            figure.add_scatter(x=[None], y=[None], showlegend=False, hoverinfo="skip", **at)
            figure.update_xaxes(range=panel.reach, **at)
        for level in panel.levels:
            figure.add_hline(level, line={"width": 1, "dash": "dot", "color": "#8b93a1"}, **at)
        if panel.share:
            figure.update_yaxes(tickformat=".0~%", rangemode="tozero", **at)
        if not panel.defined:
            figure.add_annotation(
                text="no cell with a CTS", showarrow=False, x=0.5, y=0.5, xref="x domain", yref="y domain", **at
            )
    height = _PANEL_HEIGHT * rows + 90
    figure.update_layout(**LAYOUT, height=height, legend={"orientation": "h", "y": -0.2 / rows, "yanchor": "top"})
    figure.update_xaxes(zeroline=False)
    figure.update_xaxes(title={"text": panels[0].axis, "standoff": 4}, row=rows)
    return figure


def _add(figure: go.Figure, panel: Panel, line: Line, at: dict[str, int], named: set[str]) -> None:
    name, colour = plotly_name(line.name), palette.series(line.colour)
    digits = ".1%" if panel.share else ".3~f"
    ends = [
        "" if low is None or high is None else f"{_number(low, panel.share)} to {_number(high, panel.share)}"
        for low, high in zip(line.lows, line.highs, strict=True)
    ]
    figure.add_scatter(
        x=list(line.layers),
        y=[_rounded(value) for value in line.values],
        mode="lines+markers" if line.role == "main" or len(line.layers) == 1 else "lines",
        name=name,
        legendgroup=line.name,
        showlegend=line.name not in named,
        customdata=ends,
        hovertemplate=f"{name}, {panel.axis} %{{x}}: <b>%{{y:{digits}}}</b> %{{customdata}}<extra></extra>",
        line={"color": colour, "dash": _DASHES[line.role], "width": 2.4 if line.role == "main" else 1.4},
        marker={"size": 5},
        **at,
    )
    named.add(line.name)
    if line.band and line.role != "beside":
        there = [i for i, (low, high) in enumerate(zip(line.lows, line.highs, strict=True)) if None not in (low, high)]
        figure.add_scatter(
            x=[line.layers[i] for i in (*there, *reversed(there))],
            y=[_rounded(line.highs[i]) for i in there] + [_rounded(line.lows[i]) for i in reversed(there)],
            fill="toself",
            mode="lines",
            line={"width": 0, "color": colour},
            opacity=0.18 if line.role == "main" else 0.09,
            legendgroup=line.name,
            showlegend=False,
            hoverinfo="skip",
            **at,
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _number(value: float, share: bool) -> str:
    return f"{100 * value:z.1f} %" if share else f"{value:z.2f}"
