"""Lines over layers: what is drawn of the statistics, and by both libraries alike."""

from __future__ import annotations

import polars as pl
import pytest

from crosspatch.report.interactive import panels_figure as plotly_figure
from crosspatch.report.interactive import plotly_name
from crosspatch.report.pictures.panels import Line, Panel, accuracy_panels, depth_panels
from crosspatch.report.print.panels import panels_figure as matplotlib_figure
from crosspatch.statistics.answers import comparisons
from crosspatch.statistics.depth import depth_statistics
from crosspatch.statistics.patch_mode import PatchMode
from crosspatch.tables import BEHAVIOUR, CONTROLS, SCORES
from score_cells import cell, of_text

VARIANT = PatchMode("resid_post", "corrupt", "transient")
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


def test_a_panel_for_each_domain_with_its_controls_and_one_of_disagreement() -> None:
    related, general, rate = depth_panels(depth(), VARIANT)
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


def test_a_control_has_one_colour_where_another_domain_lacks_one() -> None:
    more = [cell(p, layer, 0, (-1, 1, 0)) for p in ("g", "h") for layer in (0, 1, 2)]
    controls = [
        {"control": name, **cell(p, layer, 0, (-1, 1, -1))}
        for p, names in ((PROMPTS[0], ("other_prompt", "random", "twin")), ("g", ("random", "twin")))
        for name in names
        for layer in (0, 1, 2)
    ]
    own = [cell(p, layer, 0, (-1, 1, 0)) for p in PROMPTS for layer in (0, 1, 2)]
    table = depth_statistics(SCORES.frame(own + more), CONTROLS.frame(controls), DOMAINS | {"h": "general"})
    related, general, _ = panels = depth_panels(table, VARIANT)
    of_related = {line.name: line.colour for line in related.lines if line.role == "control"}
    of_general = {line.name: line.colour for line in general.lines if line.role == "control"}
    assert list(of_related) == ["another prompt's difference", "random direction", "twin"]
    assert len(set(of_related.values())) == 3
    assert of_general == {name: of_related[name] for name in ("random direction", "twin")}
    # So one legend tells of both panels, and the panel of disagreement, whose lines are others, has one of its own.
    printed = matplotlib_figure(panels)
    assert [axes.get_legend() is not None for axes in printed.axes if axes.axison] == [False, False, True]
    assert len(printed.legends) == 1


def test_a_frame_without_a_value_runs_over_the_same_layers() -> None:
    panels = depth_panels(depth(), VARIANT)
    low, high = panels[1].reach
    assert -1 < low < 0
    assert 2 < high < 3
    assert matplotlib_figure(panels).axes[1].get_xlim() == (low, high)
    assert plotly_figure(panels).layout.xaxis2.range == (low, high)
    assert Panel("empty", ()).reach == (-0.5, 0.5)


def test_another_variant_has_no_panel() -> None:
    assert depth_panels(depth(), PatchMode("mlp_out", "corrupt", "transient")) == []
    assert depth_panels(depth(), PatchMode("resid_post", "corrupt", "transient", "every:2")) == []


def behaviour() -> pl.DataFrame:
    conditions = [("clean", None, 3), ("corrupted", None, 0)]
    conditions += [("patched", f"L{layer}.resid_post", right) for layer, right in enumerate((3, 2, 0))]
    conditions += [("repaired", f"L{layer}.resid_post", right) for layer, right in enumerate((0, 1, 3))]
    return BEHAVIOUR.frame(
        {
            "prompt_id": f"q{i}", "domain": "related", "condition": condition, **of_text(patch), "extracted": None,
            "verdict": "correct" if i < right else "incorrect", "operation": None, "health": [],
        }
        for condition, patch, right in conditions
        for i in range(4)
    )  # fmt: skip


def test_accuracy_by_layer_in_both_directions_beside_the_models_own() -> None:
    (panel,) = accuracy_panels(comparisons(behaviour()))
    lines = {line.name: line for line in panel.lines}
    assert lines["corrupted into clean"].values == (0.75, 0.5, 0.0)
    assert lines["clean activations into the corrupted model"].values == (0.0, 0.25, 0.75)
    assert lines["clean model"].values == (0.75,) * 3
    assert lines["corrupted model"].values == (0.0,) * 3
    assert lines["corrupted into clean"].band
    assert not lines["clean model"].band


def test_without_patches_there_is_no_accuracy_by_layer() -> None:
    assert accuracy_panels(comparisons(behaviour().filter(pl.col("patch").is_null()))) == []


def test_both_libraries_draw_every_line_and_band() -> None:
    panels = depth_panels(depth(), VARIANT)
    printed = matplotlib_figure(panels)
    titles = [axes.get_title(loc="left").replace("\n", " ") for axes in printed.axes if axes.axison]
    assert titles == [panel.title for panel in panels]
    drawn = [[line.get_label() for line in axes.lines if not line.get_label().startswith("_")] for axes in printed.axes]
    assert drawn[0] == [line.name for line in panels[0].lines]
    assert drawn[1] == []
    assert printed.axes[1].texts[0].get_text() == "no cell with a CTS"
    assert len(printed.axes[0].collections) == sum(line.band and line.role != "beside" for line in panels[0].lines)
    page = plotly_figure(panels)
    assert {trace.name for trace in page.data if trace.name} == {
        line.name for p in panels for line in p.lines if line.defined
    }
    # Each name stands in the legend once.
    legend = [trace.name for trace in page.data if trace.showlegend is not False and trace.name]
    assert len(legend) == len(set(legend))
    # Plotly draws no axes without a trace, so a panel in which nothing is defined has an empty one.
    assert {trace.xaxis for trace in page.data} == {f"x{place or ''}" for place in (0, *range(2, len(panels) + 1))}
    bands = [trace for trace in page.data if trace.fill == "toself"]
    assert len(bands) == sum(line.band and line.role != "beside" for p in panels for line in p.lines)


def test_plotly_gets_no_markup_and_no_mathematics() -> None:
    assert plotly_name("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"
    assert "$" not in plotly_name("$x$")
    assert "%{" not in plotly_name("%{customdata[0]}")


def test_lines_of_unequal_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in number"):
        Line("x", (0, 1), (0.5,), (None,), (None,))
    assert not Panel("empty", ()).defined
