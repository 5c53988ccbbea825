"""The cached engine gives what the published algorithm gives, on every architecture, component and kind of run."""

from dataclasses import replace
from itertools import cycle
from typing import get_args

import polars as pl
import pytest

from architectures import ARCHITECTURES, N_LAYERS, OWN_CACHE, UNUSUAL
from crosspatch.analysis.patch import patch
from crosspatch.config import COMPONENTS, Direction
from crosspatch.models.components import find_components
from crosspatch.models.generation import answer
from crosspatch.models.site import Site
from crosspatch.patching.batches import generate
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.quick_check import quick_check, usable_engine
from crosspatch.patching.trajectory import PatchRun, Prompt
from engines import PERSISTENCES, both, counted, gap
from pairs import QUESTION, QUESTIONS, architecture_pair, components_of

STEPS = 6
# Of the unusual architectures, those that the any-cache engine does not serve.
ENGINES = dict.fromkeys(("bert", "dbrx", "deepseek_v3", "llama4", "opt"), "cached") | dict.fromkeys(
    ("nemotron_h", "openai-gpt", "recurrent_gemma"), "reference"
)
# Both directions and both persistences of an architecture, in two runs.
RUNS = [
    (PatchRun("corrupt", "transient", STEPS), PatchRun("repair", "persistent", STEPS)),
    (PatchRun("corrupt", "persistent", STEPS), PatchRun("repair", "transient", STEPS)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "runs"), list(zip(ARCHITECTURES, cycle(RUNS), strict=False)))
def test_engine_is_reference(name, runs):
    pair, components = architecture_pair(name, scale=0.16), components_of(name)
    assert quick_check(pair, patch_grid([0, 3], N_LAYERS, components, heads=[1], n_heads=4)) is None
    # One layer of each kind where windows and full attention alternate; after the last block there is only the norm.
    patches = patch_grid([2, N_LAYERS - 1], N_LAYERS, components, heads=[2], n_heads=4)
    # A prompt of one token, and one longer than the windows of 8.
    lengths = [len(pair.encode(question)) for question in QUESTIONS]
    assert (min(lengths), max(lengths) > 16, len(set(lengths))) == (1, True, 3)
    # Draft from the unpatched answers, as an experiment does.
    own = [
        [answer(model, pair.prompts, [question], STEPS, pair.stop_tokens)[0].tokens for question in QUESTIONS]
        for model in (pair.clean, pair.corrupted)
    ]
    known = list(zip(*own, strict=True))
    with counted() as counts:
        for number, run in enumerate(runs):

            def compared(question, patch, number=number):
                # Each run has each component after each question at one of the layers, and the other run at the other.
                return (question + components.index(patch.component) + patch.sites[0].layer + number) % 2 == 0

            fast, slow = both(pair, QUESTIONS, patches, run, known, compared)
            found = gap(fast, slow)
            assert found.close, (run, found)
            # The comparison has content: scored steps of every component, and trajectories that diverge.
            assert found.scored > 20
            scored = fast.filter(pl.col("status") == "ok")
            assert set(scored["component"]) == set(components)
            assert (scored["cts"].abs() > 0.01).any()
            texts = fast.group_by("prompt_id", "patch", maintain_order=True).agg("token_id")
            assert texts["token_id"].n_unique() > len(QUESTIONS)
    assert min(counts[name] for name in ("kept", "rejected", "parted", "forked")) > 0, counts


@pytest.mark.parametrize("persistence", PERSISTENCES)
@pytest.mark.parametrize("name", OWN_CACHE)
def test_models_with_a_cache_of_their_own(name, persistence, monkeypatch):
    """Equally long prompts share a batch; the schedule depends on the models' tokens, and a text ends early."""
    pair = architecture_pair(name, scale=0.3)
    assert quick_check(pair, patch_grid("all", N_LAYERS)) is not None
    assert usable_engine(pair, patch_grid("all", N_LAYERS), "cached", 64) == "any_cache"
    have = find_components(pair.clean).has
    grid = patch_grid([1, 3], N_LAYERS, COMPONENTS, heads=[2], n_heads=4)
    patches = [patch for patch in grid if have(patch.sites[0])]
    patches += [Patch.parse(f"L0.resid_post@{when}") for when in ("disagree", "every:2", "tokens:digits")]
    patches.append(Patch((Site(0), patches[-4].sites[0])))
    questions = [*QUESTIONS, QUESTION.replace("18", "19")]
    runs = [PatchRun(way, persistence, STEPS, engine="any_cache") for way in get_args(Direction)]
    asked = [Prompt(pair.encode(QUESTION), patches)]
    for run in runs:
        stop = generate(pair, asked, run)[0].trajectories[0].tokens[2]
        with monkeypatch.context() as ending:
            ending.setattr(type(pair), "stop_tokens", frozenset({stop}))
            fast, slow = both(pair, questions, patches, run)
        found = gap(fast, slow)
        # Recurrent states are summed token by token, in the reference chunk by chunk.
        assert max(found.delta, found.kl, found.cts) < 1e-3, (run, found)
        assert found.scored > 20
        lengths = fast.group_by("prompt_id", "patch").len()["len"]
        assert lengths.min() < STEPS == lengths.max()
    # The control: from the second step on the other persistence gives another result.
    ways = (replace(runs[1], persistence=persistence) for persistence in PERSISTENCES)
    both_ways = zip(*(generate(pair, asked, way)[0].trajectories for way in ways), strict=True)
    same = [(a.steps[1], b.steps[1]) for a, b in both_ways if a.tokens[0] == b.tokens[0] and len(a.steps) > 1]
    assert max(abs(a.kl_patched - b.kl_patched) for a, b in same) > 1e-2


@pytest.mark.parametrize("name", ["qwen3_sliding", "gpt_oss"])
def test_the_comparison_would_notice_another_persistence(name):
    """The control: after the first step the two persistences differ by much more than the tolerance."""
    options = {"layers": [1], "max_new_tokens": 4, "quick_check": False}
    transient, persistent = (
        patch(architecture_pair(name), QUESTIONS, persistence=persistence, **options).scores
        for persistence in ("transient", "persistent")
    )
    assert gap(transient.filter(step=0), persistent.filter(step=0)).close
    same_text = ["prompt_id", "patch", "step", "token_id"]
    joined = transient.join(persistent, on=same_text, suffix="_persistent").filter(pl.col("step") == 1)
    assert (joined["delta_patched"] - joined["delta_patched_persistent"]).abs().max() > 1e-2


@pytest.mark.parametrize("name", sorted(UNUSUAL.keys() - set(OWN_CACHE)))
def test_one_architecture_of_each_kind_is_exact_or_refused_with_the_measured_difference(name, caplog):
    pair = architecture_pair(name, scale=0.3)
    have = find_components(pair.clean).has
    patches = [p for p in patch_grid([1, 2], N_LAYERS, COMPONENTS, heads=[2], n_heads=4) if have(p.sites[0])]
    engine = usable_engine(pair, patches, "cached", 64)
    assert engine == ENGINES.get(name, "any_cache")
    if engine == "reference":
        assert "any_cache engine cannot be used on this pair: a cached pass gives logits that differ by" in caplog.text
        return
    found = gap(*both(pair, [QUESTION], patches, PatchRun(max_new_tokens=2, engine=engine)))
    assert found.scored > 0
    assert max(found.delta, found.kl) < 1e-3
