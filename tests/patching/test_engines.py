"""The cached engine gives what the published algorithm gives."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from crosspatch.patching.engine import run_cached
from crosspatch.patching.reference import run_reference
from crosspatch.patching.sites import Patch, Site, layer_patches
from crosspatch.patching.sweep import patch, patch_prompt
from crosspatch.patching.trajectory import PatchRun
from crosspatch.patching.verify import compare_engines
from pairs import QUESTION, make_pair

# Float32 through four blocks: passes of one position and of many sum in another order.
TOLERANCE = 1e-4
TOKENS = ["patch", "step", "position", "token_id", "clean_token_id", "corrupted_token_id"]
NUMBERS = ["delta_clean", "delta_corrupted", "delta_patched", "kl_clean", "kl_patched"]


def both(pair, run, question=QUESTION, layers="all"):
    patches = layer_patches(layers, pair.n_layers)
    return [patch_prompt(pair, "p", question, patches, run, engine) for engine in ("cached", "reference")]


def largest_difference(fast: pl.DataFrame, slow: pl.DataFrame) -> float:
    return max((fast[name] - slow[name]).abs().max() for name in NUMBERS)


@pytest.mark.parametrize("persistence", ["transient", "persistent"])
@pytest.mark.parametrize("direction", ["corrupt", "repair"])
def test_engine_is_reference(pair, direction, persistence):
    (fast, fast_texts), (slow, slow_texts) = both(pair, PatchRun(direction, persistence, 16))
    assert fast.select(TOKENS).equals(slow.select(TOKENS))
    assert fast_texts.equals(slow_texts)
    assert largest_difference(fast, slow) < TOLERANCE
    # The comparison is of something: steps with a score, and trajectories that part.
    assert (fast["status"] == "ok").sum() > 10
    assert fast_texts["text"].n_unique() > 1


def test_transient_and_persistent_are_two_experiments(qwen3_pair):
    (transient, _), _ = both(qwen3_pair, PatchRun("corrupt", "transient", 8))
    (persistent, _), _ = both(qwen3_pair, PatchRun("corrupt", "persistent", 8))
    assert largest_difference(transient.filter(step=0), persistent.filter(step=0)) == 0
    assert not transient.select(TOKENS).equals(persistent.select(TOKENS))


def test_trajectories_end_at_the_stop_token(monkeypatch, qwen3_pair):
    run = PatchRun(max_new_tokens=12)
    (free, _), _ = both(qwen3_pair, run)
    # A token that some trajectory says after its first step, now taken for the end of text.
    stop = free.filter(pl.col("step").is_between(2, 8))["token_id"][0]
    monkeypatch.setattr(type(qwen3_pair), "stop_tokens", frozenset({stop}))
    (fast, texts), (slow, _) = both(qwen3_pair, run)
    assert fast.select(TOKENS).equals(slow.select(TOKENS))
    ended = texts.filter(pl.col("stop_reason") == "eos")
    assert ended.height > 0
    for row in ended.iter_rows(named=True):
        tokens = fast.filter(pl.col("patch") == row["patch"])["token_id"].to_list()
        assert tokens.index(stop) == len(tokens) - 1 == row["token_count"] - 1
    assert fast.height < free.height


def test_a_prompt_of_one_token():
    pair = make_pair("qwen3", raw=True)
    assert len(pair.encode("a")) == 1
    (fast, _), (slow, _) = both(pair, PatchRun(max_new_tokens=6), question="a")
    assert fast["position"].min() == 0
    assert fast.select(TOKENS).equals(slow.select(TOKENS))
    assert largest_difference(fast, slow) < TOLERANCE


def test_windows_of_layers(qwen3_pair):
    window = Patch((Site(1), Site(2)))
    run = PatchRun(max_new_tokens=6)
    fast, _ = patch_prompt(qwen3_pair, "p", QUESTION, [window], run, "cached")
    slow, _ = patch_prompt(qwen3_pair, "p", QUESTION, [window], run, "reference")
    assert fast.select(TOKENS).equals(slow.select(TOKENS))
    assert largest_difference(fast, slow) < TOLERANCE
    assert fast["layer"].null_count() == fast.height
    assert fast["patch"][0] == "L1.resid_post+L2.resid_post"


@budget(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_prompt_any_layers(qwen3_pair, data):
    question = data.draw(st.text(min_size=1, max_size=40).filter(str.strip))
    layers = data.draw(st.sets(st.integers(0, 3), min_size=1))
    (fast, _), (slow, _) = both(qwen3_pair, PatchRun(max_new_tokens=4), question, layers)
    assert fast.select(TOKENS).equals(slow.select(TOKENS))
    assert largest_difference(fast, slow) < TOLERANCE


@torch.inference_mode()
def test_batched_is_looped(pair):
    prompt = pair.encode(QUESTION)
    patches = layer_patches("all", pair.n_layers)
    run = PatchRun(max_new_tokens=8)
    together = run_cached(pair, prompt, patches, run)
    for trajectory, one in zip(together, patches, strict=True):
        alone = run_cached(pair, prompt, [one], run)[0]
        assert alone.tokens == trajectory.tokens
        for a, b in zip(alone.steps, trajectory.steps, strict=True):
            assert a["delta_patched"] == pytest.approx(b["delta_patched"], abs=TOLERANCE)


def test_the_comparison_notices_an_engine_that_differs(qwen3_pair, monkeypatch):
    assert compare_engines(qwen3_pair, QUESTION, "all", 4).agrees
    from crosspatch.patching import sweep

    def wrong(pair, prompt, patches, run):
        other = "persistent" if run.persistence == "transient" else "transient"
        return run_reference(pair, prompt, patches, replace(run, persistence=other))

    monkeypatch.setitem(sweep.ENGINES, "cached", wrong)
    comparison = compare_engines(qwen3_pair, QUESTION, "all", 4)
    assert not comparison.agrees


def test_the_python_api(qwen3_pair):
    result = patch(qwen3_pair, {"a": QUESTION, "b": "Find y: 2y = 8"}, layers=[3, 1], max_new_tokens=5)
    assert result.scores.group_by("prompt_id", "layer").len().height == 4
    assert result.scores["layer"].unique().sort().to_list() == [1, 3]
    assert result.generations.group_by("prompt_id", "condition").len().height == 6
    assert result.text("clean", "b") != result.text("clean", "a")
    assert isinstance(result.text("L3.resid_post"), str)
    with pytest.raises(ValueError, match="nothing was generated under L2"):
        result.text("L2.resid_post")


@pytest.mark.parametrize(
    ("prompts", "layers", "words"),
    [
        ("a", [4], "out of range"),
        ("a", [-1], "out of range"),
        ("", "all", "empty"),
        ([], "all", "got no prompt"),
    ],
)
def test_wrong_use_is_refused_before_anything_runs(qwen3_pair, monkeypatch, prompts, layers, words):
    from crosspatch.patching import sweep

    monkeypatch.setattr(sweep, "patch_prompt", lambda *_: pytest.fail("something ran"))
    with pytest.raises(ValueError, match=words):
        patch(qwen3_pair, prompts, layers=layers)
