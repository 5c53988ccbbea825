"""Patching with an adapter on the clean model's own weights gives what patching with the merged child gives."""

from typing import get_args

import pytest

from adapters import saved_adapter, saved_base, shared_and_merged
from crosspatch.analysis.attribution import attribution_patching
from crosspatch.analysis.localisation import localise
from crosspatch.analysis.patch import patch
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.config import COMPONENTS, Engine
from crosspatch.models.pair import ModelPair
from crosspatch.models.tiny import tiny_model
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.quick_check import quick_check
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from engines import equal_trajectories, gap, hooks_and_forwards
from pairs import ARCHITECTURES, QUESTION


@pytest.fixture(scope="module", params=ARCHITECTURES)
def pairs(request, tmp_path_factory) -> tuple[ModelPair, ModelPair]:
    folder = tmp_path_factory.mktemp(request.param)
    base = saved_base(folder / "base", request.param)
    return shared_and_merged(base, saved_adapter(folder / "adapter", base, tiny_model(request.param)))


@pytest.mark.parametrize(("direction", "persistence"), [("corrupt", "persistent"), ("repair", "transient")])
def test_a_sweep(pairs, direction, persistence):
    options = {"component": COMPONENTS, "layers": [0, 2], "heads": [0, 3], "max_new_tokens": 8}
    shared, merged = (
        patch(pair, QUESTION, direction=direction, persistence=persistence, **options).scores for pair in pairs
    )
    assert gap(shared, merged).close
    assert set(shared["status"]) > {"agree"}


def test_the_reference_engine_and_the_quick_check_leave_no_hook(pairs):
    shared, _ = pairs
    before = hooks_and_forwards(shared.clean, shared.corrupted)
    scores = [patch(shared, QUESTION, layers=[1], max_new_tokens=6, engine=e).scores for e in get_args(Engine)]
    assert all(gap(cached, scores[-1]).close for cached in scores[:-1])
    assert quick_check(shared, patch_grid("all", shared.n_layers, COMPONENTS, n_heads=shared.n_heads)) is None
    assert hooks_and_forwards(shared.clean, shared.corrupted) == before


def test_attribution_exact_scores_and_localisation_with_its_controls(pairs):
    given, run = ForcedText(pairs[0].encode(QUESTION), range(60, 90)), PatchRun()
    one, other = (attribution_patching(pair, [given], run, ig_steps=2).cells for pair in pairs)
    assert one.drop("effect").equals(other.drop("effect"))
    assert one["effect"].abs().max() > 0.1
    assert (one["effect"] - other["effect"]).abs().max() < 1e-3
    patches = patch_grid("all", pairs[0].n_layers, COMPONENTS, n_heads=pairs[0].n_heads)
    one, other = (score_tokens(pair, given.prompt, given.text, patches, run) for pair in pairs)
    equal_trajectories(one, other)
    one, other = (localise(pair, {"p": given}, run, top=1) for pair in pairs)
    assert one.select("patch", "positions").equals(other.select("patch", "positions"))
    assert one["estimate"].abs().max() > 0.1
    for name in ("estimate", "patched", "random"):
        assert (one[name] - other[name]).abs().max() < 1e-2
