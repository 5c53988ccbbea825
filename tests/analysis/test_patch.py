"""`patch` offers what an experiment's stages do: chosen patches and controls, with the same numbers."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from crosspatch import patch
from crosspatch.config import OWN_CONTROLS
from crosspatch.patching.patches import Patch
from pairs import QUESTIONS

SHORT = {"max_new_tokens": 6, "layers": [1, 3]}
QUESTION = dict(zip("abc", QUESTIONS, strict=False))


@pytest.fixture(scope="module")
def result(qwen3_pair):
    return patch(qwen3_pair, QUESTION, controls=OWN_CONTROLS, children={"child": qwen3_pair.corrupted}, **SHORT)


def cells(frame: pl.DataFrame) -> pl.DataFrame:
    """The cells that have a CTS, without what tells a patch from a control."""
    return frame.filter(status="ok").select("prompt_id", "patch", "step", "delta_patched", "cts")


def test_controls_are_measured_where_the_patch_has_a_score(result):
    ok = result.scores.filter(status="ok")
    assert ok.height
    keys = ["prompt_id", "patch", "step"]
    for control in (*OWN_CONTROLS, "child"):
        assert_frame_equal(result.controls.filter(control=control).select(keys), ok.select(keys), check_row_order=False)


def test_the_source_as_a_control_is_the_patch_and_the_target_changes_nothing(result):
    keys = ["prompt_id", "patch", "step"]
    for control, cts in (("child", None), ("self", 0.0)):
        both = cells(result.controls.filter(control=control)).join(cells(result.scores), on=keys, suffix="_patch")
        expected = both["cts_patch"] if cts is None else pl.zeros(both.height, eager=True)
        assert (both["cts"] - expected).abs().max() < 1e-3
    random = cells(result.controls.filter(control="random")).join(cells(result.scores), on=keys, suffix="_patch")
    assert (random["cts"] - random["cts_patch"]).abs().max() > 1e-2


def test_random_directions_follow_the_seed(qwen3_pair, result):
    mine = result.controls.filter(control="random")["delta_patched"]
    for seed, same in ((0, True), (1, False)):
        controls = patch(qwen3_pair, QUESTION, controls=["random"], seed=seed, **SHORT).controls
        # Other controls in the same pass change the last digits.
        assert ((controls["delta_patched"] - mine).abs().max() < 1e-4) is same


def test_without_being_asked_for_nothing_is_chosen_or_compared(qwen3_pair):
    plain = patch(qwen3_pair, "2x = 18", **SHORT)
    assert plain.controls.is_empty()
    assert plain.selection is None


def test_attribution_patches_the_sites_that_rank_highest(qwen3_pair):
    result = patch(qwen3_pair, QUESTION, attribution=3, max_new_tokens=6)
    assert result.selection is not None
    assert result.scores["patch"].unique(maintain_order=True).to_list() == result.selection["patch"].to_list()
    assert result.selection["estimate"].is_sorted(descending=True)
    some = patch(qwen3_pair, QUESTION, attribution=3, component="mlp_out", max_new_tokens=6)
    assert set(some.scores["component"]) == {"mlp_out"}


def test_a_search_patches_the_set_that_it_finds(qwen3_pair):
    result = patch(qwen3_pair, QUESTION, target_fraction=0.2, max_new_tokens=6)
    assert result.selection is not None
    (found,) = result.scores["patch"].unique()
    assert found in result.selection["patch"].to_list()
    assert {site.component for site in Patch.parse(found).sites} <= {"attn_out", "mlp_out", "head"}


def test_the_reference_engine_has_no_controls(qwen3_pair, caplog):
    result = patch(qwen3_pair, "2x = 18", controls=["self"], engine="reference", layers=[1], max_new_tokens=2)
    assert result.controls.is_empty()
    assert "no controls are measured" in caplog.text
