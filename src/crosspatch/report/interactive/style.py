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
