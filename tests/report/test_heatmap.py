"""The heatmap and the layer × head picture as data, as a notebook's page gets them, and as matplotlib draws them."""

import json
import re
from html import unescape

import numpy as np
import polars as pl
import pytest

from crosspatch.patching.result import PatchResult
from crosspatch.report.notebook import head_map, heatmap
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.head_map import LEAST_REACH, HeadMap
from crosspatch.report.pictures.heatmap import CTS_RANGE, Heatmap
from crosspatch.report.print.heatmap import head_map_figure, heatmap_figure
from crosspatch.report.print.style import COLUMN, PAGE
from crosspatch.statistics.patch_mode import PatchMode
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import GENERATIONS, SCORES, SITE_EFFECTS, VOCABULARY

from .conftest import CELLS, GENERATED, HOSTILE_RUN, SCORED, generation, score, site_effect, unpacked


def test_rows_are_the_layers_of_one_prompt_and_values_beyond_the_range_are_counted():
    drawn = Heatmap.of(SCORED)
    assert (drawn.layers, drawn.steps) == ([0, 6, 29], [0, 1, 2, 3])
    assert drawn.cells.select("layer", "step").rows() == [(cell["layer"], cell["step"]) for cell in CELLS]
    assert drawn.reference_tokens == {0: " t0", 1: " t1", 2: " t2", 3: " t3"}
    assert Heatmap.of(SCORED.reverse()).cells.equals(drawn.cells)
    frame = SCORES.frame([*CELLS, score(0, 0, 0.75, prompt_id="other")])
    assert Heatmap.of(frame).prompt_id == "p"
    assert Heatmap.of(frame, "other").cells["cts"].to_list() == [0.75]
    with pytest.raises(ValueError, match="absent"):
        Heatmap.of(frame, "absent")
    assert drawn.notes()[:2] == [
        "5 of 9 cells have a CTS; in 3 both models predict the same token; "
        "in 1 they differ by too little to divide by.",
        "2 CTS values lie beyond the colour range of ±1.5 (from −2.50 to 4.00), marked with a triangle.",
    ]
    inside = Heatmap.of(SCORED.filter(pl.col("cts").is_null() | (pl.col("cts").abs() <= CTS_RANGE)))
    assert "beyond" not in " ".join(inside.notes())
    assert Heatmap.of(SCORES.frame([score(3, 0)])).notes()[0].startswith("None of the 1 cells has a CTS")


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
def test_what_cannot_be_drawn_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        Heatmap.of(SCORES.frame(rows))


def test_a_notebook_names_predicted_tokens_that_no_layer_wrote(tmp_path):
    def predicted(of, **more) -> list[tuple[int, str | None]]:
        """What the models predict in the cell (layer 0, step 1)."""
        page = heatmap(of, **more).html
        vocabulary = unpacked(page, "explorer")["vocabulary"]
        [picture] = unpacked(page, "prompt-0")["pictures"]
        return [tuple(vocabulary[picture[key][1]]) for key in ("clean_token_id", "corrupted_token_id")]

    assert predicted(SCORED) == [(101, " t1"), (900, None)]
    known = {900: " Add", 7: "never predicted"}
    named = [(101, " t1"), (900, " Add")]
    assert predicted(SCORED, texts=known) == named
    # What was written stands as it was written.
    assert predicted(SCORED, texts={**known, 101: "another"}) == named
    assert predicted(PatchResult(SCORED, GENERATIONS.frame(), known)) == named
    run = RunDirectory(tmp_path)
    run.write(SCORES, SCORED, 0)
    assert predicted(run) == [(101, " t1"), (900, None)]
    run.write(VOCABULARY, VOCABULARY.frame({"token_id": i, "token": text} for i, text in known.items()))
    assert predicted(run) == named
    assert predicted(run, texts={900: "<script>"})[1] == (900, "<script>")
    assert "never predicted" not in json.dumps(unpacked(heatmap(run).html, "explorer"))


def test_a_prompt_and_a_mode_of_a_result_are_chosen():
    rows = [score(0, 0, 0.75), score(0, 0, 0.25, direction="repair"), score(0, 0, 0.5, prompt_id="other")]
    texts = pl.concat([GENERATED, GENERATIONS.frame([generation("repaired", "x = 6", "L0.resid_post")])])
    result = PatchResult(SCORES.frame(rows), texts)
    with pytest.raises(ValueError, match="choose one with mode="):
        heatmap(result)
    part = unpacked(heatmap(result, mode=PatchMode("resid_post", "repair", "transient")).html, "prompt-0")
    [picture] = part["pictures"]
    assert picture["cts"] == [0.25]
    # Its row has the text of its own direction.
    text = part["texts"][picture["rows"][0]["text"]]
    assert (text["condition"], text["patch"]) == ("repaired", "L0.resid_post")
    other = unpacked(heatmap(result, "other").html, "prompt-0")
    assert other["pictures"][0]["cts"] == [0.5]
    assert other["texts"] == []


def test_a_picture_is_a_page_that_loads_nothing_and_a_frame_apart(tmp_path):
    """Hostile tokens travel packed, and nothing in the frame's attributes ends them."""
    picture = heatmap(HOSTILE_RUN["scores"])
    assert picture.write_html(tmp_path / "heatmap.html").read_text(encoding="utf-8") == picture.html
    assert not re.search(r"https?://|<(script|link|img)[^>]*\b(src|href)=", picture.html)
    assert "default-src 'none'" in picture.html
    assert "alert(1)" not in picture.html.split("</title>")[1]
    assert "plotly.js v" not in picture.html
    # Scripts run, but as those of no origin: what is round the frame is out of their reach.
    [(sandbox, srcdoc)] = re.findall(
        r'^<iframe [^>]*sandbox="([^"]*)" [^>]*srcdoc="([^"]*)"></iframe>$', picture._repr_html_()
    )
    assert (sandbox, unescape(srcdoc)) == ("allow-scripts allow-downloads", picture.html)
    assert picture.html not in repr(picture)


def test_matplotlib_draws_the_same_cells():
    axes = heatmap_figure(Heatmap.of(SCORED)).axes[0]
    statuses, defined = axes.collections
    # Rows 0, 1 and 2 are the layers 0, 6 and 29, and end where their texts end; 0 is the lighter grey, 1 the darker.
    assert statuses.get_array().tolist() == [[0, 0, None, None], [0, 1, 0, None], [0, 0, 0, 0]]
    assert defined.get_array().tolist() == [[None, 0.125, None, None], [None, None, -0.5, None], [1, 4, -2.5, None]]
    assert defined.get_clim() == (-CTS_RANGE, CTS_RANGE)
    corners = defined.get_coordinates()
    assert (corners[0, 0].tolist(), corners[-1, -1].tolist()) == ([-0.5, -0.5], [3.5, 2.5])
    named = [line for line in axes.lines if not line.get_label().startswith("_")]
    marks = {line.get_label(): line.get_xydata().tolist() for line in named}
    assert marks == {"difference too small": [[1, 1]], "above +1.5": [[1, 2]], "below −1.5": [[2, 2]]}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["␣t0", "␣t1", "␣t2", "␣t3"]
    assert heatmap_figure(Heatmap.of(SCORES.frame([score(7, 0, 1.0)]))).axes[0].get_xlim() == (-0.5, 0.5)


ROWS = [
    site_effect(2, 1, 0.3),
    site_effect(2, 1, 0.5, "recovered_fraction"),
    site_effect(2, 1, 0.01, "random"),
    site_effect(2, 0, -0.2),
    site_effect(0, 0, 0.05),
    # Layer 0 has no head 1, and these are not its heads.
    site_effect(0, None, 0.9, "recovered_fraction"),
    site_effect(0, 1, 0.7, domain="general"),
    site_effect(0, 1, 0.7, direction="repair"),
    site_effect(0, 1, 0.7, positions="current"),
]


def heads_of(*rows: dict) -> HeadMap:
    return HeadMap.of(SITE_EFFECTS.frame(rows), "related")


def test_measured_heads_stand_before_estimates_and_a_notebook_shows_the_same():
    drawn = heads_of(*ROWS)
    assert (drawn.layers, drawn.heads, drawn.reach) == ([0, 2], [0, 1], 0.5)
    assert drawn.cells.rows() == [(0, 0, 0.05, False), (2, 0, -0.2, False), (2, 1, 0.5, True)]
    assert heads_of(*reversed(ROWS)).cells.equals(drawn.cells)
    first, second, third = drawn.notes()
    assert first.startswith("1 of 3 heads are measured, marked with a ring; the colour of the others")
    assert second == "Layer 2, head 1 recovers most: 0.50 (measured)."
    assert "Only attn_out" in third
    assert heads_of(site_effect(1, 0, 0.2, "recovered_fraction")).notes()[0] == "All heads are measured."
    alone = heads_of(site_effect(1, 0, -0.2))
    assert alone.notes()[1] == "Layer 1, head 0 recovers most: −0.20 (estimated)."
    said = "Related mathematics · corrupted activations into the clean model, at all positions"
    assert alone.title == f"Recovered fraction of each head alone · {said}"

    def shown(*args, **options) -> dict:
        [heads] = unpacked(head_map(SITE_EFFECTS.frame(ROWS), *args, **options).html, "heads")
        return heads

    heads = shown("related", direction="corrupt")
    assert heads["cells"] == [list(row) for row in drawn.cells.rows()]
    assert (heads["heads"], heads["layers"], heads["reach"]) == ([0, 1], [0, 2], 0.5)
    assert heads["notes"] == drawn.notes()
    assert shown() == shown("related") == heads
    assert [cell[2] for cell in shown("general")["cells"]] == [0.7]
    assert "clean activations" in shown(direction="repair")["title"]
    assert "at the current position" in shown(positions="current")["title"]
    for rows in ([], [site_effect(0, None, 0.9)], [site_effect(0, 0, None)]):
        with pytest.raises(ValueError, match="no heads of related"):
            heads_of(*rows)
    with pytest.raises(ValueError, match="finite"):
        heads_of(site_effect(0, 0, float("nan")))
    with pytest.raises(ValueError, match="no heads were localised: near, all"):
        shown("near")


@pytest.mark.parametrize(("size", "turned"), [(COLUMN, False), (PAGE, True)])
def test_matplotlib_draws_the_same_heads(size, turned):
    """Layers upwards in a column, rightwards on a page."""
    axes = head_map_figure(heads_of(*ROWS), size).axes[0]
    [cells] = axes.collections
    # Layer 0 has no head 1.
    rows = [[0.05, None], [-0.2, 0.5]]
    assert cells.get_array().tolist() == ([list(row) for row in zip(*rows, strict=True)] if turned else rows)
    # Centred on 0, as far to either side as the largest recovered fraction.
    assert cells.get_clim() == (-0.5, 0.5)
    cream = [int(palette.CTS_SCALE[3][1][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    assert np.allclose(cells.cmap(0.5)[:3], cream, atol=0.01)
    [rings] = axes.lines
    assert rings.get_xydata().tolist() == [[1, 1]]
    labels = [[label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)]
    assert labels == ([["0", "2"], ["0", "1"]] if turned else [["0", "1"], ["0", "2"]])


def test_small_values_are_not_blown_up_and_many_heads_stay_readable():
    drawn = heads_of(*(site_effect(0, head, 0.001) for head in range(120)))
    assert drawn.reach == LEAST_REACH
    axes = head_map_figure(drawn, COLUMN).axes[0]
    assert not axes.lines
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(head) for head in range(0, 120, 20)]
