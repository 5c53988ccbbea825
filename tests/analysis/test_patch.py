"""`patch` chooses patches and measures controls, as an experiment's stages do."""

from polars.testing import assert_frame_equal

from crosspatch import patch
from crosspatch.config import OWN_CONTROLS
from crosspatch.patching.patches import Patch
from pairs import QUESTIONS

SHORT = {"max_new_tokens": 6, "layers": [1, 3]}
QUESTION = dict(zip("abc", QUESTIONS, strict=False))
KEYS = ["prompt_id", "patch", "step"]


def test_controls_are_measured_where_the_patch_has_a_score_and_the_random_one_is_seeded(qwen3_pair):
    children = {"child": qwen3_pair.corrupted}
    result = patch(qwen3_pair, QUESTION, controls=OWN_CONTROLS, children=children, **SHORT)
    ok = result.scores.filter(status="ok")
    assert ok.height
    cts = {}
    for control in (*OWN_CONTROLS, "child"):
        cells = result.controls.filter(control=control)
        assert_frame_equal(cells.select(KEYS), ok.select(KEYS), check_row_order=False)
        both = cells.filter(status="ok").join(ok, on=KEYS, suffix="_patch")
        cts[control] = (both["cts"] - (both["cts_patch"] if control != "self" else 0)).abs().max()
    # The source as a control is the patch, the target changes nothing, and a random direction is neither.
    assert max(cts["child"], cts["self"]) < 1e-3
    assert cts["random"] > 1e-2
    for seed, same in ((0, True), (1, False)):
        alone = patch(qwen3_pair, QUESTION, controls=["random"], seed=seed, **SHORT).controls["delta_patched"]
        # Other controls in the same pass change the last digits.
        apart = alone - result.controls.filter(control="random")["delta_patched"]
        assert (apart.abs().max() < 1e-4) is same


def test_controls_and_selections_are_optional(qwen3_pair, caplog):
    for engine, controls in (("cached", []), ("reference", ["self"])):
        options = {"controls": controls, "engine": engine, "layers": [1], "max_new_tokens": 2}
        plain = patch(qwen3_pair, "2x = 18", **options)
        assert plain.controls.is_empty()
        assert plain.selection is None
    # The reference engine has no controls.
    assert "controls are not measured" in caplog.text


def test_attribution_and_a_search_patch_what_they_find(qwen3_pair):
    two = dict(zip("ab", QUESTIONS, strict=False))
    result = patch(qwen3_pair, two, attribution=3, max_new_tokens=4)
    assert result.scores["patch"].unique(maintain_order=True).to_list() == result.selection["patch"].to_list()
    assert result.selection["estimate"].is_sorted(descending=True)
    some = patch(qwen3_pair, two, attribution=3, component="mlp_out", max_new_tokens=4)
    assert set(some.scores["component"]) == {"mlp_out"}
    result = patch(qwen3_pair, two, target_fraction=0.2, max_new_tokens=4)
    [found] = result.scores["patch"].unique()
    assert found in result.selection["patch"].to_list()
    assert {site.component for site in Patch.parse(found).sites} <= {"attn_out", "mlp_out", "head"}
