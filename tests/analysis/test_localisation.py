"""Localisation's sums are those of exact scores along the same texts, and which places are measured."""

from __future__ import annotations

import copy

import polars as pl
import pytest
import torch

from crosspatch.analysis import all_positions
from crosspatch.analysis.attribution import attribution_patching
from crosspatch.analysis.localisation import LOCALISED, WHOLE, estimate_sites, localise, sites_to_measure
from crosspatch.analysis.selection import IG_STEPS
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.errors import UsageError
from crosspatch.models.blocks import find_blocks
from crosspatch.models.hooks import editing, reading
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import delta
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from crosspatch.tables import LOCALISATION
from engines import TOLERANCE
from pairs import architecture_pair

TEXTS = {"a": ForcedText(range(20, 32), [*range(40, 64)]), "b": ForcedText([7, 9], [*range(90, 80, -1)])}
RUNS = {direction: PatchRun(direction) for direction in ("corrupt", "repair")}
FAMILIES = ["qwen3", "gemma3", "gpt_neox"]


def known(frame: pl.DataFrame, column: str) -> dict[tuple[str, str], float]:
    return {(prompt, patch): value for prompt, patch, value in frame.select("prompt_id", "patch", column).iter_rows()}


@pytest.mark.parametrize("direction", RUNS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_measured_are_the_sums_of_exact_scores(family, direction):
    pair, run = architecture_pair(family), RUNS[direction]
    found = localise(pair, TEXTS, run, top=3)
    measured = found.filter(pl.col("patched").is_not_null(), positions="current")
    checked = 0
    for name, given in TEXTS.items():
        rows = measured.filter(prompt_id=name)
        patches = [Patch.parse(f"{patch}@disagree") for patch in rows["patch"]]
        exact = score_tokens(pair, given.prompt, given.text, patches, run)
        for row, trajectory in zip(rows.iter_rows(named=True), exact, strict=True):
            steps = [i for i, step in enumerate(trajectory.steps) if step.applied]
            assert row["steps"] == steps
            scored = [trajectory.steps[i] for i in steps]
            moved = sum(step.delta_patched - step.delta_target for step in scored)
            gap = sum(step.delta_source - step.delta_target for step in scored)
            assert row["patched"] == pytest.approx(moved, abs=len(steps) * TOLERANCE)
            assert row["gap"] == pytest.approx(gap, abs=len(steps) * TOLERANCE)
            checked += bool(steps)
    assert checked > 10
    # Another direction moves the other way: ΔL keeps its sign, so what there is to move has another.
    assert (found["gap"] > 0).all() if direction == "corrupt" else (found["gap"] < 0).all()


def test_estimates_are_those_of_attribution_patching():
    pair = architecture_pair("qwen3")
    found = localise(pair, TEXTS, RUNS["corrupt"], top=0)
    cells = attribution_patching(
        pair, list(TEXTS.values()), RUNS["corrupt"], components=LOCALISED, ig_steps=IG_STEPS
    ).cells
    sums = cells.with_columns(
        pl.col("text").replace_strict({0: "a", 1: "b"}, return_dtype=pl.String).alias("prompt_id")
    )
    wanted = known(sums.group_by("prompt_id", "patch").agg(pl.col("effect").sum()), "effect")
    for key, value in known(found.filter(positions="current"), "estimate").items():
        assert value == pytest.approx(wanted[key], abs=1e-3)


@pytest.mark.parametrize("direction", RUNS)
def test_whole_parts_are_all_measured_and_of_heads_the_best(direction):
    pair = architecture_pair("qwen3")
    found = localise(pair, TEXTS, RUNS[direction], top=3)
    assert (found["gap"] < 0).all() == (direction == "repair")
    assert dict(found.schema) == pl.Schema(LOCALISATION.dtypes)
    assert found.filter(positions="current").drop("positions").group_by("component").len().sort("component").rows() == [
        ("attn_out", 8),
        ("head", 32),
        ("mlp_out", 8),
        ("resid_post", 8),
    ]
    of_heads = found.filter(component="head")
    best = set()
    for positions in ("current", "all"):
        # Of all prompts, and of each half of them.
        for some in (list(TEXTS), list(TEXTS)[::2], list(TEXTS)[1::2]):
            of_positions = (
                of_heads.filter(pl.col("prompt_id").is_in(some), positions=positions)
                .group_by("patch")
                .agg(share=pl.col("estimate").sum() / pl.col("gap").sum())
            )
            best |= set(of_positions.sort("share", descending=True)["patch"].head(3))
    for name in TEXTS:
        for positions in ("current", "all"):
            measured = found.filter(pl.col("patched").is_not_null(), prompt_id=name, positions=positions)
            assert set(measured.filter(component="head")["patch"]) == best
            assert measured.filter(pl.col("component").is_in(WHOLE)).height == 12
            assert (measured["random"].is_not_null() == (positions == "current")).all()
    assert [patch.name for patch in sites_to_measure(found, 0)][:1] == ["L0.resid_post"]
    assert len(sites_to_measure(found, 99)) == 12 + 16


@torch.no_grad()
@pytest.mark.parametrize("direction", RUNS)
@pytest.mark.parametrize("family", [*FAMILIES, "granite"])
def test_throughout_a_text_is_what_plain_passes_with_every_position_replaced_give(family, direction):
    pair = architecture_pair(family)
    target, source = pair.target_and_source(direction)
    found = localise(pair, TEXTS, RUNS[direction], top=2).filter(positions="all")
    for name, given in TEXTS.items():
        rows = found.filter(pl.col("patched").is_not_null(), prompt_id=name)
        tokens = torch.tensor([given.read])
        at = [given.first + step for step in rows["steps"][0]]
        clean, corrupted = (model(tokens).logits[0, at] for model in (pair.clean, pair.corrupted))
        wants = clean.argmax(-1), corrupted.argmax(-1)
        own = delta(target(tokens).logits[0, at], *wants)
        for patch, moved in rows.select("patch", "patched").iter_rows():
            site = Site.parse(patch)
            with reading(source, [site]) as there:
                source(tokens)
            with editing(target, {site: lambda stream, there=there[site]: there.clone()}):
                patched = delta(target(tokens).logits[0, at], *wants)
            assert moved == pytest.approx(float((patched - own).sum()), abs=len(at) * TOLERANCE), patch


@torch.no_grad()
def test_estimates_throughout_a_text_are_the_slopes_of_the_exact_effects():
    pair, given = architecture_pair("qwen3"), TEXTS["a"]
    estimated = estimate_sites(pair, "a", given, RUNS["corrupt"]).filter(positions="all")
    tokens = torch.tensor([given.read])
    at = [given.first + step for step in estimated["steps"][0]]
    wants = [model(tokens).logits[0, at].argmax(-1) for model in (pair.clean, pair.corrupted)]
    size = estimated["estimate"].abs().max()
    for patch in ("L0.resid_post", "L1.attn_out", "L2.mlp_out", "L1.head.3"):
        site = Site.parse(patch)
        with reading(pair.corrupted, [site]) as there:
            pair.corrupted(tokens)

        def moved(share, site=site, there=there[site]):
            with editing(pair.clean, {site: lambda stream: stream + share * (there - stream)}):
                return float(delta(pair.clean(tokens).logits[0, at], *wants).sum())

        slope = (moved(0.01) - moved(-0.01)) / 0.02
        [estimate] = estimated.filter(patch=patch)["estimate"]
        assert estimate == pytest.approx(slope, abs=1e-2 * size), patch


def test_how_many_patches_share_a_pass_changes_nothing(monkeypatch):
    pair = architecture_pair("gemma3")
    whole = localise(pair, TEXTS, RUNS["corrupt"], top=1)
    monkeypatch.setattr(all_positions, "POSITIONS_AT_ONCE", 30)
    parts = localise(pair, TEXTS, RUNS["corrupt"], top=1)
    assert parts["patched"].drop_nulls().to_list() == pytest.approx(whole["patched"].drop_nulls().to_list(), abs=1e-3)


def test_the_random_push_is_seeded_and_is_not_the_patch():
    pair = architecture_pair("qwen3")
    first, again, other = (localise(pair, TEXTS, RUNS["corrupt"], top=1, seed=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert first.drop("random").equals(other.drop("random"))
    assert not first["random"].equals(other["random"])
    last = first.filter(patch="L3.resid_post", positions="current")
    assert (last["random"] / last["gap"]).abs().max() < 0.8 * (last["patched"] / last["gap"]).min()


@pytest.mark.parametrize("layer", [0, 2])
def test_below_the_block_that_differs_nothing_is_moved(layer):
    wide = architecture_pair("qwen3")
    child = copy.deepcopy(wide.clean)
    find_blocks(child)[layer].load_state_dict(find_blocks(wide.corrupted)[layer].state_dict())
    texts = {name: ForcedText(given.prompt, [*given.text, *range(100, 140)]) for name, given in TEXTS.items()}
    found = localise(ModelPair(wide.clean, child, wide.prompts), texts, RUNS["corrupt"], top=16)
    assert found.height
    below, above = found.filter(pl.col("layer") < layer), found.filter(pl.col("layer") >= layer)
    for column in ("patched", "random", "estimate"):
        assert below[column].abs().max() in (None, pytest.approx(0, abs=10 * TOLERANCE))
    assert above["patched"].abs().max() > 100 * TOLERANCE
    # Throughout the text, above that block all is as in the child; and what comes out of the last is all that there is.
    stitched = above.filter(component="resid_post", positions="all")
    assert (stitched["patched"] / stitched["gap"]).to_list() == pytest.approx([1] * stitched.height, abs=1e-3)
    last = found.filter(patch="L3.resid_post")
    assert (last["patched"] / last["gap"]).to_list() == pytest.approx([1] * last.height, abs=1e-3)


def test_models_that_agree_leave_no_rows():
    pair = architecture_pair("llama")
    same = ModelPair(pair.clean, copy.deepcopy(pair.clean), pair.prompts)
    assert localise(same, TEXTS, RUNS["corrupt"]).is_empty()
    assert localise(same, {}, RUNS["corrupt"]).is_empty()
    assert estimate_sites(same, "a", TEXTS["a"], RUNS["corrupt"]).is_empty()


def test_persistent_patches_are_refused():
    with pytest.raises(UsageError, match="persistent"):
        localise(architecture_pair("llama"), TEXTS, PatchRun(persistence="persistent"))


def test_who_calls_changes_nothing():
    # Made outside: weights that are born in inference mode could never have a gradient.
    pair = architecture_pair("gpt_neox")
    with torch.inference_mode():
        found = localise(pair, TEXTS, RUNS["corrupt"], top=1)
    assert found["patched"].count() > 0
    assert "attn_out" in found["component"]
