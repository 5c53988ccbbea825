"""Lines over layers: what is drawn of the statistics, and by both libraries alike."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crosspatch.patching.result import PatchResult
from crosspatch.report.interactive import panels_figure as plotly_figure
from crosspatch.report.interactive import plotly_name
from crosspatch.report.notebook import depth_chart
from crosspatch.report.pictures.panels import Line, Panel, accuracy_panels, depth_panels
from crosspatch.report.print.panels import panels_figure as matplotlib_figure
from crosspatch.statistics.answers import comparisons
from crosspatch.statistics.depth import depth_statistics
from crosspatch.statistics.patch_mode import PatchMode
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, CONTROLS, GENERATIONS, SCORES
from experiment.runs import made_run
from score_cells import answer, cell

MODE = PatchMode("resid_post", "corrupt", "transient")
PROMPTS = [f"p{i}" for i in range(9)]
DOMAINS = dict.fromkeys(PROMPTS, "related") | {"g": "general"}


def depth() -> pl.DataFrame:
    shares = {0: 0.1, 1: 0.5, 2: 1.0}
    cells = [
        cell(p, layer, 0, (-1, 1, 2 * s - 1 + i / 50)) for i, p in enumerate(PROMPTS) for layer, s in shares.items()
    ]
    cells += [cell("g", layer, 0, (0, 0, 0)) for layer in shares]
    controls = [
        {"control": name, **cell(p, layer, 0, (-1, 1, -1 + i / 50))}
        for name in ("self", "random", "twin")
        for i, p in enumerate(PROMPTS)
        for layer in shares
    ]
    return depth_statistics(SCORES.frame(cells), CONTROLS.frame(controls), DOMAINS)


def test_both_libraries_draw_a_panel_for_each_domain_with_its_controls_and_one_of_disagreement() -> None:
    panels = related, general, rate = depth_panels(depth(), MODE)
    assert related.title == "Related mathematics: 9 prompts with a CTS"
    names = ["recovered fraction", "mean CTS", "itself", "random direction", "twin"]
    assert [line.name for line in related.lines] == names
    assert [line.role for line in related.lines] == ["main", "beside", "control", "control", "control"]
    main = related.lines[0]
    assert main.x == (0, 1, 2)
    assert main.values == pytest.approx((0.14, 0.54, 1.04))
    assert all(low < value < high for low, value, high in zip(main.lows, main.values, main.highs, strict=True))
    assert not general.defined
    assert general.title == "General questions: 0 prompts with a CTS"
    assert [line.name for line in rate.lines] == ["Related mathematics", "General questions"]
    assert rate.share
    printed, page = matplotlib_figure(panels), plotly_figure(panels)
    titles = [axes.get_title(loc="left").replace("\n", " ") for axes in printed.axes if axes.axison]
    assert titles == [panel.title for panel in panels]
    drawn = [[line.get_label() for line in axes.lines if not line.get_label().startswith("_")] for axes in printed.axes]
    assert drawn[:2] == [names, []]
    assert printed.axes[1].texts[0].get_text() == "no cell with a CTS"
    assert len(printed.axes[0].collections) == sum(line.band and line.role != "beside" for line in related.lines)
    lines = [line for panel in panels for line in panel.lines]
    assert {trace.name for trace in page.data if trace.name} == {line.name for line in lines if line.defined}
    # Each name stands in the legend once.
    legend = [trace.name for trace in page.data if trace.showlegend is not False and trace.name]
    assert len(legend) == len(set(legend))
    # Plotly draws no axes without a trace, so a panel in which nothing is defined has an empty one.
    assert {trace.xaxis for trace in page.data} == {f"x{place or ''}" for place in (0, *range(2, len(panels) + 1))}
    bands = [trace for trace in page.data if trace.fill == "toself"]
    assert len(bands) == sum(line.band and line.role != "beside" for line in lines)
    assert plotly_name("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"
    assert "$" not in plotly_name("$x$")
    assert "%{" not in plotly_name("%{customdata[0]}")
    # A frame without a value runs over the same layers.
    low, high = general.reach
    assert -1 < low < 0
    assert 2 < high < 3
    assert printed.axes[1].get_xlim() == (low, high)
    assert page.layout.xaxis2.range == (low, high)
    assert Panel("empty", ()).reach == (-0.5, 0.5)
    with pytest.raises(ValueError, match="differ in number"):
        Line("x", (0, 1), (0.5,), (None,), (None,))
    # Another mode has no panel.
    assert depth_panels(depth(), PatchMode("mlp_out", "corrupt", "transient")) == []
    assert depth_panels(depth(), PatchMode("resid_post", "corrupt", "transient", "every:2")) == []


def test_a_control_has_one_colour_where_another_domain_lacks_one() -> None:
    own = depth().filter(domain="related").with_columns(pl.col("control").replace("self", "other_prompt"))
    without = own.filter(pl.col("control").is_null() | (pl.col("control") != "other_prompt"))
    panels = related, general, _ = depth_panels(pl.concat([own, without.with_columns(domain=pl.lit("general"))]), MODE)
    of_related = {line.name: line.colour for line in related.lines if line.role == "control"}
    of_general = {line.name: line.colour for line in general.lines if line.role == "control"}
    assert list(of_related) == ["another prompt's difference", "random direction", "twin"]
    assert len(set(of_related.values())) == 3
    assert of_general == {name: of_related[name] for name in ("random direction", "twin")}
    # So one legend tells of both panels, and the panel of disagreement, whose lines are others, has one of its own.
    printed = matplotlib_figure(panels)
    assert [axes.get_legend() is not None for axes in printed.axes if axes.axison] == [False, False, True]
    assert len(printed.legends) == 1


def test_accuracy_by_layer_in_both_directions_beside_the_models_own() -> None:
    conditions = [("clean", None, 3), ("corrupted", None, 0)]
    conditions += [("patched", f"L{layer}.resid_post", right) for layer, right in enumerate((3, 2, 0))]
    conditions += [("repaired", f"L{layer}.resid_post", right) for layer, right in enumerate((0, 1, 3))]
    behaviour = BEHAVIOUR.frame(
        answer(f"q{i}", condition, "correct" if i < right else "incorrect", patch)
        for condition, patch, right in conditions
        for i in range(4)
    )
    (panel,) = accuracy_panels(comparisons(behaviour))
    lines = {line.name: line for line in panel.lines}
    assert lines["corrupted into clean"].values == (0.75, 0.5, 0.0)
    assert lines["clean activations into the corrupted model"].values == (0.0, 0.25, 0.75)
    assert lines["clean model"].values == (0.75,) * 3
    assert lines["corrupted model"].values == (0.0,) * 3
    assert lines["corrupted into clean"].band
    assert not lines["clean model"].band
    assert accuracy_panels(comparisons(behaviour.filter(pl.col("patch").is_null()))) == []


def test_it_draws_the_recovered_fraction_of_runs_summaries_and_scores(tmp_path: Path) -> None:
    def fractions(figure: Any) -> list[float]:
        """The values of the first panel's main line."""
        return [round(value, 3) for value in figure.data[0].y]

    run = made_run(tmp_path / "run", prompts=2)
    summary, scores = Summary.of_run(run), run.read(SCORES)
    evenly = [0.0, 0.25, 0.5, 0.75, 1.0]
    figures = [depth_chart(of) for of in (run, summary, scores, PatchResult(scores, GENERATIONS.frame()))]
    assert [fractions(figure) for figure in figures] == [evenly] * 4
    titles = [figure.layout.annotations[0].text for figure in figures]
    named = ["Related mathematics", "Related mathematics", "Own prompts", "Own prompts"]
    assert titles == [f"{name}: 2 prompts with a CTS" for name in named]
    # In a notebook letters and lines can be read on light and dark; the page gives its charts colours itself.
    level = int(figures[0].layout.font.color[1:3], 16)
    assert 0x60 < level < 0xA0
    assert "rgba" in figures[0].layout.xaxis.gridcolor
    assert plotly_figure([Panel("p", ())]).layout.font.color is None
    # One mode is drawn.
    other = scores.with_columns(direction=pl.lit("repair"), cts=pl.lit(0.5), delta_patched=pl.lit(0.0))
    both = pl.concat([scores, other.cast(dict(scores.schema)).filter(pl.col("status") == "ok")])
    with pytest.raises(ValueError, match="choose one with mode="):
        depth_chart(both)
    assert fractions(depth_chart(both, mode=PatchMode("resid_post", "repair", "transient"))) == [0.5] * 5
    with pytest.raises(ValueError, match="no single layer was patched as mlp_out"):
        depth_chart(scores, mode=PatchMode("mlp_out", "corrupt", "transient"))
    with pytest.raises(ValueError, match="no scores"):
        depth_chart(scores.head(0))
