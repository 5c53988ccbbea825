"""The heatmap as data, and as both libraries draw it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from crosspatch.patching.result import PatchResult
from crosspatch.report.interactive.heatmap import heatmap
from crosspatch.report.interactive.heatmap import heatmap_figure as plotly_figure
from crosspatch.report.pictures.heatmap import CTS_RANGE, Heatmap
from crosspatch.report.print.heatmap import heatmap_figure as matplotlib_figure
from crosspatch.statistics.variant import Variant
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import GENERATIONS, SCORES, VOCABULARY

from .conftest import CELLS, score

Make = Callable[[list[dict[str, Any]]], pl.DataFrame]


def test_rows_are_layers_and_end_where_their_text_ended(scores: pl.DataFrame) -> None:
    drawn = Heatmap.of(scores)
    assert drawn.layers == [0, 6, 29]
    assert drawn.steps == [0, 1, 2, 3]
    reached = [[cell is not None for cell in row] for row in drawn.grid()]
    assert reached == [[True, True, False, False], [True, True, True, False], [True] * 4]
    assert drawn.reference_tokens == {0: " t0", 1: " t1", 2: " t2", 3: " t3"}


def test_the_order_of_the_rows_does_not_matter(scores: pl.DataFrame) -> None:
    assert Heatmap.of(scores.reverse()).grid() == Heatmap.of(scores).grid()


def test_one_prompt_is_taken(make_scores: Make) -> None:
    frame = make_scores([*CELLS, score(0, 0, 0.75, prompt_id="other")])
    assert Heatmap.of(frame).prompt_id == "p"
    assert Heatmap.of(frame, "other").grid()[0][0]["cts"] == 0.75  # type: ignore[index]
    with pytest.raises(ValueError, match="absent"):
        Heatmap.of(frame, "absent")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no scores"),
        ([score(0, 0), score(0, 0)], "twice"),
        ([score(0, 0, None, "ok")], "CTS must be there"),
        ([score(0, 0, 0.0, "agree")], "CTS must be there"),
        ([score(0, 0, None, "odd")], "odd"),
        ([score(0, 0, float("nan"))], "finite"),
        ([score(0, 0), score(0, 1, direction="repair")], "variant"),
        ([score(0, 0, layer=None)], "no scores"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make_scores: Make, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Heatmap.of(make_scores(rows))


def test_rows_beside_the_prompt_are_refused(make_scores: Make) -> None:
    frame = make_scores([score(0, 0), score(0, 1, prompt_id="q")])
    with pytest.raises(ValueError, match="one prompt"):
        Heatmap("p", Variant("resid_post", "corrupt", "transient"), frame)


def test_values_beyond_the_range_are_counted_and_said(scores: pl.DataFrame) -> None:
    drawn = Heatmap.of(scores)
    assert sorted(cell["cts"] for cell in drawn.beyond()) == [-2.5, 4.0]
    assert drawn.notes()[:2] == [
        "5 of 9 cells have a CTS; in 3 both models want the same token; in 1 they differ by too little to divide by.",
        "2 CTS values lie beyond the colour range of ±1.5 (from −2.50 to 4.00), marked with a triangle.",
    ]
    inside = Heatmap.of(scores.filter(pl.col("cts").is_null() | (pl.col("cts").abs() <= CTS_RANGE)))
    assert "beyond" not in " ".join(inside.notes())


def test_without_a_defined_cell_it_says_so(make_scores: Make) -> None:
    assert Heatmap.of(make_scores([score(3, 0)])).notes()[0].startswith("None of the 1 cells has a CTS")


def test_plotly_keeps_undefined_and_unreached_cells_apart(scores: pl.DataFrame) -> None:
    undefined, defined, *others = plotly_figure(Heatmap.of(scores)).data
    assert [list(row) for row in undefined.z] == [
        [0, None, None, None],
        [0, 1, None, None],
        [None, None, None, 0],
    ]
    assert [list(row) for row in defined.z] == [
        [None, 0.125, None, None],
        [None, None, -0.5, None],
        [1.0, 4.0, -2.5, None],
    ]
    assert (defined.zmin, defined.zmax) == (-CTS_RANGE, CTS_RANGE)
    assert list(defined.y) == ["0", "6", "29"]
    marks = {trace.name: (list(trace.x), list(trace.y)) for trace in others}
    assert marks["above +1.5"] == ([1], ["29"])
    assert marks["below −1.5"] == ([2], ["29"])
    assert marks["difference too small"] == ([1], ["6"])


def test_plotly_shows_what_is_known_of_a_cell(scores: pl.DataFrame) -> None:
    undefined, defined, *_ = plotly_figure(Heatmap.of(scores)).data
    known = ["␣t1 (id 101)", "0.25", "unknown", "1"]
    wanted = "clean wants ␣t1 (id 101)<br>corrupted wants id 900"
    assert defined.customdata[0][1] == [*known, wanted, "−1", "1", "−0.75", "0.125"]
    assert undefined.customdata[1][0][4] == "agree: both models want it"
    assert undefined.customdata[1][1][4].startswith(f"{wanted}<br>ΔL clean −1, corrupted 1, patched 0<br>small_denom")
    assert undefined.customdata[0][1] is None
    # A bare %{x} is the label under the axis, which is a token; with a format it is the step.
    assert "step %{x:d}" in defined.hovertemplate
    used = {int(place) for place in re.findall(r"customdata\[(\d)\]", defined.hovertemplate)}
    assert used == set(range(len(defined.customdata[0][1])))


def test_texts_name_wanted_tokens_that_no_layer_wrote(scores: pl.DataFrame, tmp_path: Path) -> None:
    def wanted(of: Any, **more: Any) -> str:
        return heatmap(of, **more).data[1].customdata[0][1][4]

    assert wanted(scores).endswith("corrupted wants id 900")
    known = {900: " Add", 7: "never wanted"}
    named = "clean wants ␣t1 (id 101)<br>corrupted wants ␣Add (id 900)"
    assert wanted(scores, texts=known) == named
    # What was written stands as it was written.
    assert wanted(scores, texts={**known, 101: "another"}) == named
    assert wanted(PatchResult(scores, GENERATIONS.frame(), known)) == named
    run = RunDirectory(tmp_path)
    run.write(SCORES, scores, 0)
    assert wanted(run).endswith("id 900")
    run.write(VOCABULARY, VOCABULARY.frame({"token_id": i, "token": text} for i, text in known.items()))
    assert wanted(run) == named
    assert wanted(run, texts={900: "<script>"}).endswith("&lt;script&gt; (id 900)")
    assert "never wanted" not in json.dumps(heatmap(run).to_plotly_json(), default=list)


def test_a_prompt_and_a_variant_of_a_result_are_chosen(make_scores: Make) -> None:
    rows = [score(0, 0, 0.75), score(0, 0, 0.25, direction="repair"), score(0, 0, 0.5, prompt_id="other")]
    result = PatchResult(make_scores(rows), GENERATIONS.frame())
    with pytest.raises(ValueError, match="choose a variant"):
        heatmap(result)
    assert list(heatmap(result, variant=Variant("resid_post", "repair", "transient")).data[1].z[0]) == [0.25]
    assert list(heatmap(result, "other").data[1].z[0]) == [0.5]


def test_plotly_reads_nothing_in_hostile_tokens(hostile_scores: pl.DataFrame) -> None:
    text = json.dumps(heatmap(hostile_scores).to_plotly_json(), default=list, ensure_ascii=False)
    assert "&lt;b&gt;bold" in text
    for token in ("<script", "<a ", "\x00", "\u202e", "x" * 100):
        assert token not in text
    assert "$" not in text


def test_matplotlib_draws_the_same_cells(scores: pl.DataFrame) -> None:
    axes = matplotlib_figure(Heatmap.of(scores)).axes[0]
    reached, _, small, defined = (
        [tuple(path.get_extents().bounds) for path in cells.get_paths()] for cells in axes.collections
    )
    # Rows 0, 1 and 2 are the layers 0, 6 and 29, and end where their texts end.
    assert reached == [(-0.5, -0.5, 2, 1), (-0.5, 0.5, 3, 1), (-0.5, 1.5, 4, 1)]
    assert small == [(0.5, 0.5, 1, 1)]
    assert defined == [(0.5, -0.5, 1, 1), (1.5, 0.5, 1, 1), (-0.5, 1.5, 1, 1), (0.5, 1.5, 1, 1), (1.5, 1.5, 1, 1)]
    np.testing.assert_array_equal(axes.collections[-1].get_array(), [0.125, -0.5, 1, 4, -2.5])
    assert axes.collections[-1].get_clim() == (-CTS_RANGE, CTS_RANGE)
    marks = {
        line.get_label(): line.get_xydata().tolist() for line in axes.lines if not line.get_label().startswith("_")
    }
    assert marks == {"difference too small": [[1, 1]], "above +1.5": [[1, 2]], "below −1.5": [[2, 2]]}
    assert [text.get_text() for text in axes.texts] == ["␣t0", "␣t1", "␣t2", "␣t3"]


def test_one_layer_and_one_step(make_scores: Make) -> None:
    drawn = Heatmap.of(make_scores([score(7, 0, 1.0)]))
    assert plotly_figure(drawn).data[1].z == ((1.0,),) or list(plotly_figure(drawn).data[1].z) == [[1.0]]
    assert matplotlib_figure(drawn).axes[0].get_xlim() == (-0.5, 0.5)


def test_matplotlib_parses_no_mathematics(hostile_scores: pl.DataFrame) -> None:
    labels = matplotlib_figure(Heatmap.of(hostile_scores)).axes[0].texts
    assert labels[2].get_text() == "$\\frac{1}{$"
    assert not any(label.get_parse_math() for label in labels)
