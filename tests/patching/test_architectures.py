"""The cached engine gives what the published algorithm gives, on every architecture, component and kind of run."""

from __future__ import annotations

from itertools import cycle

import polars as pl
import pytest

from architectures import ARCHITECTURES, N_LAYERS, PARALLEL
from crosspatch.errors import UsageError
from crosspatch.models.generation import answer
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.sweep import choose_patches
from crosspatch.patching.trajectory import PatchRun
from engines import both, counted, gap, remembered_unpatched_passes
from pairs import QUESTIONS, architecture_pair, components_of

STEPS = 6
# Both directions and both forms of an architecture, in two runs. All four runs: three architectures in test_engines.
RUNS = [
    (PatchRun("corrupt", "transient", STEPS), PatchRun("repair", "persistent", STEPS)),
    (PatchRun("corrupt", "persistent", STEPS), PatchRun("repair", "transient", STEPS)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "runs"), list(zip(ARCHITECTURES, cycle(RUNS), strict=False)))
def test_engine_is_reference(name, runs):
    pair = architecture_pair(name)
    # One layer of each kind where windows and full attention alternate; the last block, after which only the norm is.
    patches = patch_grid([2, N_LAYERS - 1], N_LAYERS, components_of(name), heads=[2], n_heads=4)
    # One token, and more than the windows of 8.
    lengths = [len(pair.encode(question)) for question in QUESTIONS]
    assert (min(lengths), max(lengths) > 16, len(set(lengths))) == (1, True, 3)
    # As in an experiment: the unpatched answers are there to draft from.
    own = [
        [answer(model, pair.prompts, [question], STEPS, pair.stop_tokens)[0].tokens for question in QUESTIONS]
        for model in (pair.clean, pair.corrupted)
    ]
    known = list(zip(*own, strict=True))
    with counted() as counts, remembered_unpatched_passes():
        for run in runs:
            fast, slow = both(pair, QUESTIONS, patches, run, known)
            found = gap(fast, slow)
            print(name, run, found)  # shown where it fails, or with -rP
            assert found.close, (run, found)
            # The comparison is of something: steps with a score for every component, and trajectories that part.
            assert found.scored > 20
            scored = fast.filter(pl.col("status") == "ok")
            assert set(scored["component"]) == set(components_of(name))
            assert (scored["cts"].abs() > 0.01).any()
            texts = fast.group_by("prompt_id", "patch", maintain_order=True).agg("token_id")
            assert texts["token_id"].n_unique() > len(QUESTIONS)
    assert min(counts.kept, counts.rejected, counts.parted, counts.forked) > 0, counts


@pytest.mark.parametrize("name", sorted(PARALLEL))
def test_no_resid_mid_in_parallel_blocks(name):
    with pytest.raises(UsageError, match=r"no L1\.resid_mid: .* run in parallel"):
        choose_patches(architecture_pair(name), [1], "resid_mid")


@pytest.mark.parametrize("name", ["qwen3_sliding", "gpt_oss"])
def test_the_comparison_would_notice_another_persistence(name):
    """The control: the two persistences are further apart than the tolerance, by far."""
    pair = architecture_pair(name)
    patches = patch_grid([1], N_LAYERS)
    with remembered_unpatched_passes():
        transient, _ = both(pair, QUESTIONS, patches, PatchRun(max_new_tokens=4))
        persistent, _ = both(pair, QUESTIONS, patches, PatchRun(persistence="persistent", max_new_tokens=4))
    same_text = ["prompt_id", "patch", "step", "token_id"]
    joined = transient.join(persistent, on=same_text, suffix="_persistent").filter(pl.col("step") == 1)
    assert (joined["delta_patched"] - joined["delta_patched_persistent"]).abs().max() > 1e-2
