"""Panels of lines drawn by plotly, for the page and for notebooks.

Names come from runs and may contain HTML and `$` signs, so they are escaped for plotly.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from crosspatch.characters import legible
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.panels import Line, Panel, Role

_LAYOUT: dict[str, Any] = {
    "template": go.layout.Template(),
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "margin": {"l": 56, "r": 16, "t": 56, "b": 56},
    "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 12},
    "hoverlabel": {"font": {"size": 12}, "align": "left"},
}

# Colours for notebooks, readable on light and dark. The page sets the colours of its charts itself.
_INK, _RULE = "#7d838d", "rgba(128,128,128,.28)"
# The dashes of a line, and whether its points have markers.
_LOOKS: dict[Role, tuple[str, bool]] = {
    "main": ("solid", True),
    "dense": ("solid", False),
    "beside": ("dot", False),
    "held out": ("dot", True),
    "control": ("dash", False),
}
_PANEL_HEIGHT = 330


@dataclass(frozen=True)
class Chart:
    """Panels as a chart on a page, with the id of its element and the width in pixels below which it scrolls."""

    id: str
    label: str
    panels: Sequence[Panel]
    least_width: int = 700

    @property
    def height(self) -> int:
        """Pixels, with titles and legend."""
        return _height(self.panels)

    @property
    def data(self) -> dict[str, Any]:
        """The plotly figure and its numbers as a table, as JSON."""
        tree = panels_figure(self.panels).to_plotly_json()
        tree["layout"].pop("template", None)
        rows = [
            [legible(panel.title), legible(line.name), *point]
            for panel in self.panels
            for line in panel.lines
            for point in zip(line.x, line.values, line.lows, line.highs, strict=True)
        ]
        columns = ["panel", "line", self.panels[0].axis, "value", "low", "high"]
        return {"figure": tree, "table": {"name": legible(self.label), "columns": columns, "rows": rows}}


def panels_figure(panels: Sequence[Panel]) -> go.Figure:
    """Panels, two in a row, with intervals as bands; a click on the legend hides a line and its band."""
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[
            plotly_name(f"{panel.title} ({panel.unit})" if panel.unit else panel.title, 80) for panel in panels
        ],
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
            # Plotly draws no axes without a trace, and would put their annotation into another panel.
            figure.add_scatter(x=[None], y=[None], showlegend=False, hoverinfo="skip", **at)
            figure.update_xaxes(range=panel.reach, **at)
        for level in panel.levels:
            figure.add_hline(level, line={"width": 1, "dash": "dot", "color": "#8b93a1"}, **at)
        if panel.share:
            figure.update_yaxes(tickformat=".0~%", rangemode="tozero", **at)
        if panel.log:
            # 0.0001, not 100µ.
            figure.update_yaxes(type="log", dtick=1, exponentformat="none", tickformat="~f", **at)
        if not panel.defined:
            figure.add_annotation(
                text=panel.missing, showarrow=False, x=0.5, y=0.5, xref="x domain", yref="y domain", **at
            )
    legend = {"orientation": "h", "y": -0.2 / rows, "yanchor": "top"}
    figure.update_layout(**_LAYOUT, height=_height(panels), legend=legend)
    figure.update_xaxes(zeroline=False)
    figure.update_xaxes(title={"text": panels[0].axis, "standoff": 4}, row=rows)
    return figure


def _height(panels: Sequence[Panel]) -> int:
    """Pixels of a chart, two panels in a row, with titles and legend."""
    return _PANEL_HEIGHT * -(-len(panels) // 2) + 90


def _add(figure: go.Figure, panel: Panel, line: Line, at: dict[str, int], named: set[str]) -> None:
    name, colour = plotly_name(line.name), palette.series(line.colour)
    dash, marked = _LOOKS[line.role]
    digits = ".1%" if panel.share else ".3~g"
    ends = [
        "" if low is None or high is None else f"{_number(low, panel.share)} to {_number(high, panel.share)}"
        for low, high in zip(line.lows, line.highs, strict=True)
    ]
    figure.add_scatter(
        x=list(line.x),
        y=[_rounded(value) for value in line.values],
        mode="lines+markers" if marked or len(line.x) == 1 else "lines",
        name=name,
        legendgroup=line.name,
        showlegend=panel.legend and line.name not in named,
        customdata=ends,
        hovertemplate=f"{name}, {panel.axis} %{{x}}: <b>%{{y:{digits}}}</b> %{{customdata}}<extra></extra>",
        line={"color": colour, "dash": dash, "width": 2.4 if line.role == "main" else 1.4},
        marker={"size": 5},
        **at,
    )
    if panel.legend:
        named.add(line.name)
    if line.band and line.role != "beside":
        there = [i for i, (low, high) in enumerate(zip(line.lows, line.highs, strict=True)) if None not in (low, high)]
        figure.add_scatter(
            x=[line.x[i] for i in (*there, *reversed(there))],
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
    return None if value is None else round(value, 6)


def _number(value: float, share: bool) -> str:
    return f"{100 * value:z.1f} %" if share else f"{value:z.2f}"


def for_notebook(figure: go.Figure) -> go.Figure:
    """The figure with colours that are readable on light and dark, for a notebook."""
    figure.update_layout(font={"color": _INK})
    figure.update_xaxes(gridcolor=_RULE, linecolor=_RULE, zerolinecolor=_RULE)
    figure.update_yaxes(gridcolor=_RULE, linecolor=_RULE, zerolinecolor=_RULE)
    return figure


def plotly_name(text: str, limit: int = 60) -> str:
    """A name escaped for plotly and cut at `limit` characters."""
    shown = legible(text.replace("\n", " ")[:limit]) + ("…" if len(text) > limit else "")
    return html.escape(shown, quote=False).replace("$", "&#36;").replace("%{", "%&#123;")
