"""What all charts drawn by plotly have in common: the same look, on light and dark pages.

Knows nothing of what is drawn.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

LAYOUT: dict[str, Any] = {
    "template": go.layout.Template(),
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "margin": {"l": 56, "r": 16, "t": 56, "b": 56},
    "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 12},
    "hoverlabel": {"font": {"size": 12}, "align": "left"},
}

# A page knows whether it is light or dark and dresses its charts itself; a notebook does not tell. These read on both.
INK, _RULE = "#7d838d", "rgba(128,128,128,.28)"


def for_notebook(figure: go.Figure) -> go.Figure:
    """The figure with letters and lines that can be read on light and dark, as a notebook shows it."""
    figure.update_layout(font={"color": INK})
    figure.update_xaxes(gridcolor=_RULE, linecolor=_RULE, zerolinecolor=_RULE)
    figure.update_yaxes(gridcolor=_RULE, linecolor=_RULE, zerolinecolor=_RULE)
    return figure
