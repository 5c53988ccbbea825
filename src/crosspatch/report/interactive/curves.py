"""The training curves drawn by plotly.

Knows nothing of the page.
"""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from crosspatch.report.interactive.style import LAYOUT
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.curves import DIFFERENCE, HELD_OUT, TRAINED, TrainingCurves
from crosspatch.report.pictures.glyphs import plotly_name


def training_figure(curves: TrainingCurves) -> go.Figure:
    """Losses and divergence by optimizer step, a colour a run."""
    scale = ", log scale" if curves.log else ""
    figure = make_subplots(
        rows=1,
        cols=2,
        subplot_titles=(f"Loss (nats a token{scale})", DIFFERENCE),
        horizontal_spacing=0.1,
    )
    single = len(curves.runs) == 1
    for place, run in enumerate(curves.runs):
        prefix = "" if single else f"{plotly_name(run)}: "
        for kind, group, dash, mode, column in (
            (TRAINED, curves.train, "solid", "lines", 1),
            (HELD_OUT, curves.evaluation, "dot", "lines+markers", 1),
            ("divergence", curves.divergence, "solid", "lines+markers", 2),
        ):
            for curve in group:
                if curve.run == run:
                    figure.add_scatter(
                        x=list(curve.steps),
                        y=[round(value, 6) for value in curve.values],
                        mode=mode if len(curve.steps) > 1 else "markers",
                        name=prefix + kind,
                        line={"color": palette.series(place), "dash": dash, "width": 2},
                        row=1,
                        col=column,
                    )
    figure.update_layout(**LAYOUT, height=370, legend={"orientation": "h", "y": -0.28, "yanchor": "top"})
    # The legend moves up where it takes many lines: the title stays above it, close to the axis.
    figure.update_xaxes(title={"text": "optimizer step", "standoff": 4}, zeroline=False)
    if curves.log:
        # As it is printed: 0.0001, not 100µ.
        figure.update_yaxes(type="log", dtick=1, exponentformat="none", tickformat="~f", row=1, col=1)
    figure.update_yaxes(zeroline=True, row=1, col=2)
    return figure
