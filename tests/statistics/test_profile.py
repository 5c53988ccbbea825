"""Profiles over layers and token by token, against numbers worked out by hand."""

import polars as pl
import pytest

from crosspatch.statistics.patch_mode import PatchMode, modes
from crosspatch.statistics.profile import depth_profile, prompt_profile, published_cts, word_statistics
from crosspatch.tables import SCORES
from score_cells import AGREE, cell

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
    profile = depth_profile(SCORES.frame(CELLS), DOMAINS)
    counts = ("domain", "layer", "positions", "disagreements", "ok_cells", "small_denominators", "outside_unit")
    assert profile.select(counts).rows() == [
        ("related", 3, 4, 2, 2, 0, 0),
        ("related", 5, 2, 2, 1, 1, 1),
        ("general", 5, 1, 0, 0, 0, 0),
    ]
    assert profile["disagreement_rate"].to_list() == [0.5, 1, 0]
    # Without a cell that is ok there is no CTS, and not 0.
    assert profile["mean_cts"].to_list() == [pytest.approx(0.375), pytest.approx(1.5), None]
    assert profile["recovered_fraction"].to_list() == [pytest.approx(0.3), pytest.approx(1.5), None]
    assert profile["prompts"][0] == 2
    by_prompt = prompt_profile(SCORES.frame(CELLS)).select("prompt_id", "layer", "positions")
    assert by_prompt.rows() == [("g", 5, 1), ("p", 3, 3), ("p", 5, 2), ("q", 3, 1)]
    empty = depth_profile(SCORES.frame(), {})
    assert (empty.is_empty(), empty.schema) == (True, profile.schema)
    with pytest.raises(ValueError, match="'q'"):
        depth_profile(SCORES.frame(CELLS), {"p": "related", "g": "general"})
    # Directions and persistences are not pooled.
    cells = [cell("p", 3, 0, (-1, 1, 1), direction="repair"), cell("p", 3, 0, (-1, 1, -1), persistence="persistent")]
    profile = depth_profile(SCORES.frame([CELLS[0], *cells]), DOMAINS)
    assert profile.select("direction", "persistence", "mean_cts").rows() == [
        ("corrupt", "persistent", 0.0),
        ("corrupt", "transient", 0.5),
        ("repair", "transient", 1.0),
    ]


def test_published_mode_has_zero_where_ours_has_nothing() -> None:
    frame = SCORES.frame(CELLS)
    assert published_cts(frame)["cts"].to_list() == pytest.approx([0.5, 0.25, 0, 0, 1.5, 0, 0])
    assert frame["cts"].null_count() == 4
    # Its threshold is its own: a run that left out more is counted as the authors would have.
    strict = frame.with_columns(cts=pl.lit(None, pl.Float32), status=pl.lit("small_denominator"))
    assert published_cts(strict)["cts"][0] == 0.5
    assert published_cts(frame, threshold=5)["cts"].to_list() == pytest.approx([0, 0.25, 0, 0, 0, 0, 0])


def test_modes_are_those_of_single_layers() -> None:
    window = cell("p", None, 0, AGREE, patch="L3-5.resid_post", persistence="persistent")
    parts = ({"component": "head", "head": 2}, {"component": "attn_out+mlp_out"}, {"component": "head"})
    frame = SCORES.frame([*CELLS, window, *(cell("p", 3, 0, AGREE, **part) for part in parts)])
    (mode,) = modes(frame)
    assert mode == PatchMode("resid_post", "corrupt", "transient")
    assert mode.rows(frame).height == len(CELLS)

    ends = [PatchMode("resid_post", direction, "transient").ceiling for direction in ("corrupt", "repair")]
    assert ["near 1" in ends[0], "near 0" in ends[1]] == [True, True]
    assert PatchMode("mlp_out", "corrupt", "transient").ceiling is None


def test_a_published_score_is_disagreement_times_transfer() -> None:
    # Of layers 0 to 8, 7 is late and not the last.
    disagree = (("p", 0, " add", 1), ("p", 2, "$$", 0))
    agree = (("p", 1, " add"), ("q", 0, "$$"), ("q", 1, "$$"), ("q", 2, "$$"), ("q", 3, " is"))
    cells = [cell(p, layer, t, (-1, 1, d), token=token) for layer in (0, 7, 8) for p, t, token, d in disagree]
    cells += [cell(p, layer, t, AGREE, token=token) for layer in (0, 7, 8) for p, t, token in agree]
    table = word_statistics(SCORES.frame(cells), {"p": "related", "q": "related"})
    columns = ("token", "positions", "prompts", "disagreements", "disagreement_rate", "mean_cts", "published_cts")
    assert table.select(columns).rows() == [
        (" add", 2, 1, 1, 0.5, 1.0, pytest.approx(0.5 * 1.0)),
        ("$$", 4, 2, 1, 0.25, 0.5, pytest.approx(0.25 * 0.5)),
        (" is", 1, 1, 0, 0.0, None, 0.0),
    ]
    # No late layer gives no row.
    assert word_statistics(SCORES.frame([cell("p", 0, 0, (-1, 1, 1))]), {"p": "related"}).is_empty()
