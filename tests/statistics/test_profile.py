"""Profiles over layers and token by token, against numbers worked out by hand."""

from __future__ import annotations

import polars as pl
import pytest

from crosspatch.statistics.patch_mode import PatchMode, modes
from crosspatch.statistics.profile import depth_profile, prompt_profile, published_cts, word_statistics
from crosspatch.tables import SCORES
from score_cells import cell

AGREE = (0.0, 0.0, 0.0)
CELLS = [
    # Layer 3: CTS 0.5 (1 of 2) and 0.25 (2 of 8): mean 0.375, recovered fraction 3/10.
    cell("p", 3, 0, (-1, 1, 0)),
    cell("p", 3, 1, (-4, 4, -2)),
    cell("p", 3, 2, AGREE),
    cell("q", 3, 0, AGREE),
    # Layer 5: one value above 1, one disagreement that is too small to divide by.
    cell("p", 5, 0, (-1, 1, 2)),
    cell("p", 5, 1, (-1e-6, 1e-6, 0), cts=None, status="small_denominator"),
    cell("g", 5, 0, AGREE),
]
DOMAINS = {"g": "general", "p": "related", "q": "related", "unused": "unrelated_math"}


def test_profile_counts_by_hand() -> None:
    rows = depth_profile(SCORES.frame(CELLS), DOMAINS).to_dicts()
    assert [(row["domain"], row["layer"]) for row in rows] == [("related", 3), ("related", 5), ("general", 5)]
    third, fifth, general = rows
    assert (third["positions"], third["disagreements"], third["ok_cells"], third["prompts"]) == (4, 2, 2, 2)
    assert third["disagreement_rate"] == 0.5
    assert third["mean_cts"] == pytest.approx(0.375)
    assert third["recovered_fraction"] == pytest.approx(0.3)
    assert third["outside_unit"] == 0
    assert (fifth["disagreements"], fifth["ok_cells"], fifth["small_denominators"]) == (2, 1, 1)
    assert fifth["mean_cts"] == pytest.approx(1.5)
    assert fifth["outside_unit"] == 1
    assert (general["ok_cells"], general["disagreement_rate"]) == (0, 0)


def test_without_an_ok_cell_there_is_no_transfer_and_not_zero() -> None:
    general = depth_profile(SCORES.frame(CELLS), DOMAINS).filter(pl.col("domain") == "general").row(0, named=True)
    assert general["mean_cts"] is None
    assert general["recovered_fraction"] is None


def test_the_same_layer_of_other_variants_is_not_pooled() -> None:
    repair = cell("p", 3, 0, (-1, 1, 1), direction="repair")
    persistent = cell("p", 3, 0, (-1, 1, -1), persistence="persistent")
    frame = SCORES.frame([CELLS[0], repair, persistent])
    means = {(r["direction"], r["persistence"]): r["mean_cts"] for r in depth_profile(frame, DOMAINS).to_dicts()}
    assert means == {
        ("corrupt", "persistent"): 0.0,
        ("corrupt", "transient"): 0.5,
        ("repair", "transient"): 1.0,
    }


def test_profile_by_prompt() -> None:
    rows = prompt_profile(SCORES.frame(CELLS)).to_dicts()
    assert [(row["prompt_id"], row["layer"], row["positions"]) for row in rows] == [
        ("g", 5, 1),
        ("p", 3, 3),
        ("p", 5, 2),
        ("q", 3, 1),
    ]


def test_no_scores_give_no_rows_with_the_same_columns() -> None:
    empty, filled = depth_profile(SCORES.frame(), {}), depth_profile(SCORES.frame(CELLS), DOMAINS)
    assert empty.is_empty()
    assert empty.schema == filled.schema


def test_a_prompt_without_a_domain_is_an_error() -> None:
    with pytest.raises(ValueError, match="'q'"):
        depth_profile(SCORES.frame(CELLS), {"p": "related", "g": "general"})


def test_published_mode_has_zero_where_ours_has_nothing() -> None:
    frame = SCORES.frame(CELLS)
    assert published_cts(frame)["cts"].to_list() == pytest.approx([0.5, 0.25, 0, 0, 1.5, 0, 0])
    assert frame["cts"].null_count() == 4
    # Its threshold is its own: a run that left out more is counted as the authors would have.
    strict = frame.with_columns(cts=pl.lit(None, pl.Float32), status=pl.lit("small_denominator"))
    assert published_cts(strict)["cts"][0] == 0.5
    assert published_cts(frame, threshold=5)["cts"].to_list() == pytest.approx([0, 0.25, 0, 0, 0, 0, 0])


def test_variants_are_those_of_single_layers() -> None:
    window = cell("p", None, 0, AGREE, patch="L3-5.resid_post", persistence="persistent")
    head = cell("p", 3, 0, AGREE, component="head", head=2)
    places = cell("p", 3, 0, AGREE, component="attn_out+mlp_out")
    heads = cell("p", 3, 0, AGREE, component="head")
    frame = SCORES.frame([*CELLS, window, head, places, heads])
    (mode,) = modes(frame)
    assert mode == PatchMode("resid_post", "corrupt", "transient")
    assert mode.rows(frame).height == len(CELLS)


def test_the_ceiling_depends_on_the_direction() -> None:
    assert "near 1" in str(PatchMode("resid_post", "corrupt", "transient").ceiling)
    assert "near 0" in str(PatchMode("resid_post", "repair", "transient").ceiling)
    assert PatchMode("mlp_out", "corrupt", "transient").ceiling is None


def cells() -> list[dict]:
    """Layers 0 to 8: of these 7 is late and not the last."""
    rows = []
    for layer in (0, 7, 8):
        rows += [
            cell("p", layer, 0, (-1, 1, 1), token=" add"),
            cell("p", layer, 1, (0, 0, 0), token=" add"),
            cell("p", layer, 2, (-1, 1, 0), token="$$"),
            cell("q", layer, 0, (0, 0, 0), token="$$"),
            cell("q", layer, 1, (0, 0, 0), token="$$"),
            cell("q", layer, 2, (0, 0, 0), token="$$"),
            cell("q", layer, 3, (0, 0, 0), token=" is"),
        ]
    return rows


def test_a_published_score_is_disagreement_times_transfer() -> None:
    table = word_statistics(SCORES.frame(cells()), {"p": "related", "q": "related"})
    assert table["token"].to_list() == [" add", "$$", " is"]
    add, dollars, rest = table.to_dicts()
    assert (add["positions"], add["disagreements"], add["disagreement_rate"], add["mean_cts"]) == (2, 1, 0.5, 1.0)
    assert add["published_cts"] == pytest.approx(0.5)
    assert (dollars["positions"], dollars["prompts"], dollars["disagreement_rate"]) == (4, 2, 0.25)
    assert dollars["published_cts"] == pytest.approx(0.25 * 0.5)
    assert (rest["mean_cts"], rest["published_cts"]) == (None, 0.0)
    for row in (add, dollars):
        assert row["published_cts"] == pytest.approx(row["disagreement_rate"] * row["mean_cts"])


def test_no_late_layer_gives_no_row() -> None:
    only = SCORES.frame([cell("p", 0, 0, (-1, 1, 1))])
    assert word_statistics(only, {"p": "related"}).is_empty()
