"""The training curves and the depth profile drawn by plotly.

Knows nothing of the page.
"""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from crosspatch.report import palette
from crosspatch.report.curves import DIFFERENCE, HELD_OUT, TRAINED, TrainingCurves
from crosspatch.report.glyphs import plotly_name
from crosspatch.report.plotly_style import LAYOUT
from crosspatch.results.domain import domain_title, ordered_domains

_COUNTS = ("ok_cells", "positions", "prompts")


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
    figure.update_xaxes(title_text="optimizer step", zeroline=False)
    if curves.log:
        figure.update_yaxes(type="log", dtick=1, row=1, col=1)
    figure.update_yaxes(zeroline=True, row=1, col=2)
    return figure


def depth_figure(profile: pl.DataFrame) -> go.Figure:
    """How much transfers, how often the models disagree, and out of how many cells, by layer and domain."""
    figure = make_subplots(
        rows=1,
        cols=3,
        column_widths=[0.46, 0.27, 0.27],
        subplot_titles=("Transfer where they disagree", "Disagreement rate", "Cells with a CTS"),
        horizontal_spacing=0.07,
    )
    for place, domain in enumerate(ordered_domains(profile["domain"])):
        rows = profile.filter(pl.col("domain") == domain).sort("layer")
        name, colour = plotly_name(domain_title(domain)), palette.series(place)
        for column, key, dash, label in (
            (1, "mean_cts", "solid", f"{name}: mean CTS"),
            (1, "transfer", "dot", f"{name}: ratio of sums"),
            (2, "disagreement_rate", "solid", name),
            (3, "ok_cells", "solid", name),
        ):
            drawn = rows[key].null_count() < rows.height
            figure.add_scatter(
                x=rows["layer"].to_list(),
                y=[None if value is None else round(value, 6) for value in rows[key]],
                mode="lines+markers",
                # A domain without a line still has its colour in the other two panels, and so its entry.
                name=label if drawn else f"{name}: no cell with a CTS",
                legendgroup=domain,
                showlegend=column == 1 and (drawn or key == "mean_cts"),
                customdata=[[f"{ok:,}", f"{n:,}", p] for ok, n, p in rows.select(*_COUNTS).iter_rows()],
                hovertemplate=f"{name}, layer %{{x}}: <b>%{{y:.3~g}}</b><br>"
                "%{customdata[0]} of %{customdata[1]} positions have a CTS, "
                "%{customdata[2]} prompts<extra></extra>",
                line={"color": colour, "dash": dash, "width": 2},
                marker={"size": 5, "symbol": "circle" if dash == "solid" else "circle-open"},
                row=1,
                col=column,
            )
    for level in (0, 1):
        figure.add_hline(level, line={"width": 1, "dash": "dash", "color": "#8b93a1"}, row=1, col=1)
    figure.update_layout(**LAYOUT, height=410, legend={"orientation": "h", "y": -0.27, "yanchor": "top"})
    figure.update_xaxes(title_text="layer", zeroline=False)
    figure.update_yaxes(tickformat=".1~%", rangemode="tozero", row=1, col=2)
    figure.update_yaxes(rangemode="tozero", row=1, col=3)
    return figure
