"""Half precision: it runs, its scores are numbers, and it is near the reference."""

import pytest

from crosspatch.patching.engine import run_cached
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.quick_check import quick_check
from crosspatch.patching.reference import run_reference
from crosspatch.patching.trajectory import PatchRun, Prompt
from engines import DELTAS, KLS, table
from pairs import QUESTION, QUESTIONS, architecture_pair, components_of, in_bfloat16


@pytest.mark.parametrize(
    ("name", "persistence"),
    [("gemma2", "persistent"), ("gpt_oss", "transient"), ("gpt2", "persistent"), ("cohere2", "transient")],
)
def test_bfloat16_gives_numbers_that_are_near_the_references(name, persistence):
    pair = in_bfloat16(architecture_pair(name))
    ids = pair.encode(QUESTION)
    patches = patch_grid([1, 3], 4, components_of(name), heads=[0], n_heads=4)
    prompts = [Prompt(pair.encode(question), patches, answers=True) for question in QUESTIONS]
    run = PatchRun(persistence=persistence, max_new_tokens=5, small_denominator=pair.small_denominator)
    for written in run_cached(pair, prompts, run):
        frame = table(pair, written.trajectories, run)
        for column in (*DELTAS, *KLS):
            assert frame[column].is_finite().all()
        assert frame["kl_patched"].max() > 0
    # At the first step, before the texts can differ: within a few roundings of logits of about 5.
    grid, run = patch_grid("all", 4), PatchRun(max_new_tokens=1)
    fast = run_cached(pair, [Prompt(ids, grid)], run)[0].trajectories
    for one, other in zip(fast, run_reference(pair, ids, grid, run), strict=True):
        assert one.steps[0].kl_patched == pytest.approx(other.steps[0].kl_patched, abs=0.1)
    assert quick_check(pair, grid) is None


@pytest.mark.parametrize("engine", ["cached", "reference"])
def test_a_float32_unembedding_does_not_round_logits(engine):
    pair = in_bfloat16(architecture_pair("qwen3"))
    ids, patches = pair.encode(QUESTION), patch_grid([1], 4)

    def first_step(float32):
        run = PatchRun(max_new_tokens=1, float32_unembedding=float32)
        if engine == "reference":
            return run_reference(pair, ids, patches, run)[0].steps[0]
        return run_cached(pair, [Prompt(ids, patches)], run)[0].trajectories[0].steps[0]

    rounded, exact = first_step(False), first_step(True)
    # Differences of logits are multiples of 1/256, as those of bfloat16 above 1/2 are.
    assert all((delta * 256).is_integer() for delta in rounded.deltas)
    assert not all((delta * 256).is_integer() for delta in exact.deltas) or not exact.disagree
    assert exact.kl_patched != rounded.kl_patched
    assert exact.kl_patched == pytest.approx(rounded.kl_patched, abs=0.1)
