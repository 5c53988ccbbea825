"""The heatmap as data, as a notebook's page gets it, and as matplotlib draws it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crosspatch.patching.result import PatchResult
from crosspatch.report.notebook import Picture, heatmap
from crosspatch.report.pictures.heatmap import CTS_RANGE, Heatmap
from crosspatch.report.print.heatmap import heatmap_figure as matplotlib_figure
from crosspatch.statistics.patch_mode import PatchMode
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import GENERATIONS, SCORES, VOCABULARY

from .conftest import CELLS, generation, score, unpacked

Make = Callable[[list[dict[str, Any]]], pl.DataFrame]


def test_rows_are_layers_and_end_where_their_text_ended(scores: pl.DataFrame) -> None:
    drawn = Heatmap.of(scores)
    assert drawn.layers == [0, 6, 29]
    assert drawn.steps == [0, 1, 2, 3]
    reached = [(0, 0), (0, 1), (6, 0), (6, 1), (6, 2), (29, 0), (29, 1), (29, 2), (29, 3)]
    assert list(drawn.cells.select("layer", "step").iter_rows()) == reached
    assert drawn.reference_tokens == {0: " t0", 1: " t1", 2: " t2", 3: " t3"}


def test_the_order_of_the_rows_does_not_matter(scores: pl.DataFrame) -> None:
    assert Heatmap.of(scores.reverse()).cells.equals(Heatmap.of(scores).cells)


def test_one_prompt_is_taken(make_scores: Make) -> None:
    frame = make_scores([*CELLS, score(0, 0, 0.75, prompt_id="other")])
    assert Heatmap.of(frame).prompt_id == "p"
    assert Heatmap.of(frame, "other").cells["cts"].to_list() == [0.75]
    with pytest.raises(ValueError, match="absent"):
        Heatmap.of(frame, "absent")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no scores"),
        ([score(0, 0), score(0, 0)], "twice"),
        ([score(0, 0, None, "ok")], "CTS must be a number"),
        ([score(0, 0, 0.0, "agree")], "CTS must be a number"),
        ([score(0, 0, None, "odd")], "odd"),
        ([score(0, 0, float("nan"))], "finite"),
        ([score(0, 0), score(0, 1, direction="repair")], "mode"),
        ([score(0, 0, layer=None)], "no scores"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make_scores: Make, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Heatmap.of(make_scores(rows))


def test_values_beyond_the_range_are_counted_and_said(scores: pl.DataFrame) -> None:
    drawn = Heatmap.of(scores)
    assert drawn.notes()[:2] == [
        "5 of 9 cells have a CTS; in 3 both models predict the same token; "
        "in 1 they differ by too little to divide by.",
        "2 CTS values lie beyond the colour range of ±1.5 (from −2.50 to 4.00), marked with a triangle.",
    ]
    inside = Heatmap.of(scores.filter(pl.col("cts").is_null() | (pl.col("cts").abs() <= CTS_RANGE)))
    assert "beyond" not in " ".join(inside.notes())


def test_without_a_defined_cell_it_says_so(make_scores: Make) -> None:
    assert Heatmap.of(make_scores([score(3, 0)])).notes()[0].startswith("None of the 1 cells has a CTS")


def shown(picture: Picture) -> tuple[list[str], dict[tuple[int, int], dict[str, Any]]]:
    """The rows and the cells, by layer and step, that the explorer of a notebook gets."""
    index, (drawn,) = unpacked(picture.html, "explorer"), unpacked(picture.html, "prompt-0")["pictures"]
    columns = {name: values for name, values in drawn.items() if name not in ("rows", "ceiling", "notes", "variant")}
    cells = {}
    for row in drawn["rows"]:
        for i in range(row["start"], row["start"] + row["cells"]):
            cell = {name: values[i] for name, values in columns.items()}
            cell |= {key: index["vocabulary"][cell[key]] for key in cell if key.endswith("token_id")}
            cells[row["layer"], cell["step"]] = cell | {"status": index["statuses"][cell["status"]]}
    assert index["range"] == CTS_RANGE
    return [row["name"] for row in drawn["rows"]], cells


def test_a_notebook_keeps_undefined_and_unreached_cells_apart(scores: pl.DataFrame) -> None:
    rows, cells = shown(heatmap(scores))
    assert rows == ["0", "6", "29"]
    assert {at: (cell["status"], cell["cts"]) for at, cell in cells.items()} == {
        (0, 0): ("agree", None), (0, 1): ("ok", 0.125),
        (6, 0): ("agree", None), (6, 1): ("small_denominator", None), (6, 2): ("ok", -0.5),
        (29, 0): ("ok", 1.0), (29, 1): ("ok", 4.0), (29, 2): ("ok", -2.5), (29, 3): ("agree", None),
    }  # fmt: skip


def test_a_notebook_shows_what_is_known_of_a_cell(scores: pl.DataFrame) -> None:
    _, cells = shown(heatmap(scores))
    distance = {"kl_clean": 0.25, "kl_patched": None, "rank_corrupted": 1}
    models = {"token_id": [101, " t1"], "clean_token_id": [101, " t1"], "corrupted_token_id": [900, None]}
    deltas = {"delta_clean": -1.0, "delta_corrupted": 1.0}
    assert cells[0, 1].items() >= {**distance, **models, **deltas, "delta_patched": -0.75, "cts": 0.125}.items()
    assert cells[6, 1].items() >= {**distance, **models, **deltas, "delta_patched": 0.0, "cts": None}.items()
    assert cells[6, 0]["clean_token_id"] == cells[6, 0]["corrupted_token_id"] == cells[6, 0]["token_id"]
    assert (0, 2) not in cells


def test_texts_name_wanted_tokens_that_no_layer_wrote(scores: pl.DataFrame, tmp_path: Path) -> None:
    def wanted(of: Any, **more: Any) -> list[tuple[int, str | None]]:
        cell = shown(heatmap(of, **more))[1][0, 1]
        return [tuple(cell[key]) for key in ("clean_token_id", "corrupted_token_id")]

    assert wanted(scores) == [(101, " t1"), (900, None)]
    known = {900: " Add", 7: "never wanted"}
    named = [(101, " t1"), (900, " Add")]
    assert wanted(scores, texts=known) == named
    # What was written stands as it was written.
    assert wanted(scores, texts={**known, 101: "another"}) == named
    assert wanted(PatchResult(scores, GENERATIONS.frame(), known)) == named
    run = RunDirectory(tmp_path)
    run.write(SCORES, scores, 0)
    assert wanted(run) == [(101, " t1"), (900, None)]
    run.write(VOCABULARY, VOCABULARY.frame({"token_id": i, "token": text} for i, text in known.items()))
    assert wanted(run) == named
    assert wanted(run, texts={900: "<script>"})[1] == (900, "<script>")
    index = unpacked(heatmap(run).html, "explorer")
    assert " Add" in json.dumps(index)
    assert "never wanted" not in json.dumps(index)


def test_a_prompt_and_a_variant_of_a_result_are_chosen(make_scores: Make, generations: pl.DataFrame) -> None:
    rows = [score(0, 0, 0.75), score(0, 0, 0.25, direction="repair"), score(0, 0, 0.5, prompt_id="other")]
    texts = pl.concat([generations, GENERATIONS.frame([generation("repaired", "x = 6", "L0.resid_post")])])
    result = PatchResult(make_scores(rows), texts)
    with pytest.raises(ValueError, match="choose a mode"):
        heatmap(result)
    repaired = heatmap(result, mode=PatchMode("resid_post", "repair", "transient"))
    assert [cell["cts"] for cell in shown(repaired)[1].values()] == [0.25]
    # Its row has the text of its own direction.
    part = unpacked(repaired.html, "prompt-0")
    (row,) = part["pictures"][0]["rows"]
    assert (part["texts"][row["text"]]["condition"], part["texts"][row["text"]]["patch"]) == (
        "repaired",
        "L0.resid_post",
    )
    other = heatmap(result, "other")
    assert [cell["cts"] for cell in shown(other)[1].values()] == [0.5]
    assert unpacked(other.html, "prompt-0")["texts"] == []


def test_a_picture_is_a_page_that_loads_nothing_and_a_frame_apart(hostile_scores: pl.DataFrame, tmp_path: Path) -> None:
    """Hostile tokens travel packed, and nothing in the frame's attributes ends them."""
    picture = heatmap(hostile_scores)
    assert picture.write_html(tmp_path / "heatmap.html").read_text(encoding="utf-8") == picture.html
    assert not re.search(r"https?://|<(script|link|img)[^>]*\b(src|href)=", picture.html)
    assert "default-src 'none'" in picture.html
    assert "alert(1)" not in picture.html.split("</title>")[1]
    assert "plotly.js v" not in picture.html
    frames: list[dict[str, str | None]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: frames.append({"tag": tag, **dict(attrs)})  # type: ignore[method-assign]
    parser.feed(picture._repr_html_())
    [frame] = frames
    assert (frame["tag"], frame["srcdoc"]) == ("iframe", picture.html)
    # Scripts run, but as those of no origin: what is round the frame is out of their reach.
    assert frame["sandbox"] == "allow-scripts allow-downloads"
    assert "srcdoc" not in repr(picture)
    assert picture.html not in repr(picture)


def test_matplotlib_draws_the_same_cells(scores: pl.DataFrame) -> None:
    axes = matplotlib_figure(Heatmap.of(scores)).axes[0]
    statuses, defined = axes.collections
    # Rows 0, 1 and 2 are the layers 0, 6 and 29, and end where their texts end; 0 is the lighter grey, 1 the darker.
    assert statuses.get_array().tolist() == [[0, 0, None, None], [0, 1, 0, None], [0, 0, 0, 0]]
    assert defined.get_array().tolist() == [[None, 0.125, None, None], [None, None, -0.5, None], [1, 4, -2.5, None]]
    assert defined.get_clim() == (-CTS_RANGE, CTS_RANGE)
    corners = defined.get_coordinates()
    assert corners[0, 0].tolist() == [-0.5, -0.5]
    assert corners[-1, -1].tolist() == [3.5, 2.5]
    marks = {
        line.get_label(): line.get_xydata().tolist() for line in axes.lines if not line.get_label().startswith("_")
    }
    assert marks == {"difference too small": [[1, 1]], "above +1.5": [[1, 2]], "below −1.5": [[2, 2]]}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["␣t0", "␣t1", "␣t2", "␣t3"]


def test_one_layer_and_one_step(make_scores: Make) -> None:
    drawn = Heatmap.of(make_scores([score(7, 0, 1.0)]))
    assert [cell["cts"] for cell in shown(heatmap(drawn.cells))[1].values()] == [1.0]
    assert matplotlib_figure(drawn).axes[0].get_xlim() == (-0.5, 0.5)


def test_matplotlib_parses_no_mathematics(hostile_scores: pl.DataFrame) -> None:
    labels = matplotlib_figure(Heatmap.of(hostile_scores)).axes[0].get_xticklabels()
    assert labels[2].get_text() == "$\\frac{1}{$"
    assert not any(label.get_parse_math() for label in labels)
