"""Localisation: its sums are those of exact scores along the same texts, and which sites are measured."""

from itertools import product

import polars as pl
import pytest
import torch

from crosspatch.analysis import all_positions
from crosspatch.analysis.attribution import attribution_patching
from crosspatch.analysis.localisation import LOCALISED, WHOLE, estimate_sites, localise, sites_to_measure
from crosspatch.analysis.selection import IG_STEPS
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.errors import UsageError
from crosspatch.models.hooks import editing, reading
from crosspatch.models.site import Site
from crosspatch.patching.scores import delta
from crosspatch.patching.trajectory import PatchRun, recovered
from crosspatch.tables import LOCALISATION
from engines import TOLERANCE, exact_scores, fitting
from pairs import architecture_pair, child_in

TEXTS = {"a": ForcedText(range(20, 32), [*range(40, 64)]), "b": ForcedText([7, 9], [*range(90, 80, -1)])}
RUN = PatchRun()


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "direction"),
    [
        ("qwen3", "corrupt"),
        ("gemma3", "repair"),
        ("gpt_neox", "corrupt"),
        ("granite", "repair"),
        ("qwen3_next", "repair"),
    ],
)
def test_what_is_measured_is_what_the_engine_and_plain_passes_give(family, direction):
    """At the current position the exact scores; at all positions plain passes with every position replaced."""
    pair = architecture_pair(family)
    run = fitting(PatchRun(direction), pair)
    target, source = pair.target_and_source(direction)
    found = localise(pair, TEXTS, run, top=3)
    # ΔL keeps its sign in the repair direction, so the gap changes its own.
    assert (found["gap"] > 0).all() if direction == "corrupt" else (found["gap"] < 0).all()
    measured, checked = found.filter(pl.col("patched").is_not_null()), 0
    for name, given in TEXTS.items():
        rows = measured.filter(prompt_id=name, positions="current")
        exact = exact_scores(pair, given, rows["patch"], run)
        for row, trajectory in zip(rows.iter_rows(named=True), exact, strict=True):
            steps = [i for i, step in enumerate(trajectory.steps) if step.applied]
            assert row["steps"] == steps
            sums = recovered([trajectory])
            assert (row["patched"], row["gap"]) == pytest.approx((sums.moved, sums.gap), abs=len(steps) * TOLERANCE)
            checked += bool(steps)
        rows = measured.filter(prompt_id=name, positions="all")
        tokens = torch.tensor([given.read])
        at = [given.first + step for step in steps]
        predicted = [model(tokens).logits[0, at].argmax(-1) for model in (pair.clean, pair.corrupted)]
        own = delta(target(tokens).logits[0, at], *predicted)
        for patch, moved in rows.select("patch", "patched").iter_rows():
            site = Site.parse(patch)
            with reading(source, [site]) as there:
                source(tokens)
            with editing(target, {site: lambda stream, there=there[site]: there.clone()}):
                patched = delta(target(tokens).logits[0, at], *predicted)
            assert moved == pytest.approx(float((patched - own).sum()), abs=len(at) * TOLERANCE), patch
    assert checked > 10


@torch.no_grad()
def test_estimates_are_those_of_attribution_and_the_slopes_of_the_exact_effects():
    pair, given = architecture_pair("qwen3"), TEXTS["a"]
    found = estimate_sites(pair, "a", given, RUN)
    cells = attribution_patching(pair, [given], RUN, components=LOCALISED, ig_steps=IG_STEPS).cells
    sums = cells.group_by("patch").agg(pl.col("effect").sum()).join(found.filter(positions="current"), on="patch")
    assert sums["estimate"].to_list() == pytest.approx(sums["effect"].to_list(), abs=1e-3)
    estimated = found.filter(positions="all")
    assert sums.height == estimated.height == 28
    tokens = torch.tensor([given.read])
    at = [given.first + step for step in estimated["steps"][0]]
    predicted = [model(tokens).logits[0, at].argmax(-1) for model in (pair.clean, pair.corrupted)]
    size = estimated["estimate"].abs().max()
    for patch in ("L0.resid_post", "L1.attn_out", "L2.mlp_out", "L1.head.3"):
        site = Site.parse(patch)
        with reading(pair.corrupted, [site]) as there:
            pair.corrupted(tokens)

        def moved(share, site=site, there=there[site]):
            with editing(pair.clean, {site: lambda stream: stream + share * (there - stream)}):
                return float(delta(pair.clean(tokens).logits[0, at], *predicted).sum())

        slope = (moved(0.01) - moved(-0.01)) / 0.02
        [estimate] = estimated.filter(patch=patch)["estimate"]
        assert estimate == pytest.approx(slope, abs=1e-2 * size), patch


@pytest.mark.parametrize("direction", ["corrupt", "repair"])
def test_whole_parts_are_all_measured_and_of_heads_the_best(direction):
    found = localise(architecture_pair("qwen3"), TEXTS, PatchRun(direction), top=3)
    assert dict(found.schema) == pl.Schema(LOCALISATION.dtypes)
    counts = dict(found.filter(positions="current").group_by("component").len().iter_rows())
    assert counts == {"attn_out": 8, "head": 32, "mlp_out": 8, "resid_post": 8}
    # Of all prompts, and of each half of them.
    best, share = set(), pl.col("estimate").sum() / pl.col("gap").sum()
    for positions, some in product(("current", "all"), (["a", "b"], ["a"], ["b"])):
        of_heads = found.filter(pl.col("prompt_id").is_in(some), component="head", positions=positions)
        best |= set(of_heads.group_by("patch").agg(share=share).sort("share", descending=True)["patch"].head(3))
    for name, positions in product(TEXTS, ("current", "all")):
        measured = found.filter(pl.col("patched").is_not_null(), prompt_id=name, positions=positions)
        assert set(measured.filter(component="head")["patch"]) == best
        assert measured.filter(pl.col("component").is_in(WHOLE)).height == 12
        assert (measured["random"].is_not_null() == (positions == "current")).all()
    assert [patch.name for patch in sites_to_measure(found, 0)][:1] == ["L0.resid_post"]
    assert len(sites_to_measure(found, 99)) == 12 + 16


def test_how_patches_share_a_pass_and_who_calls_changes_nothing(monkeypatch):
    pair = architecture_pair("gemma3")
    whole = localise(pair, TEXTS, RUN, top=1)
    monkeypatch.setattr(all_positions, "POSITIONS_AT_ONCE", 30)
    with torch.inference_mode():
        parts = localise(pair, TEXTS, RUN, top=1)
    assert whole["patched"].count() > 0
    assert parts["patched"].drop_nulls().to_list() == pytest.approx(whole["patched"].drop_nulls().to_list(), abs=1e-3)


def test_the_random_vector_is_seeded_and_is_not_the_patch():
    pair = architecture_pair("qwen3")
    first, again, other = (localise(pair, TEXTS, RUN, top=1, seed=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert first.drop("random").equals(other.drop("random"))
    assert not first["random"].equals(other["random"])
    last = first.filter(patch="L3.resid_post", positions="current")
    assert (last["random"] / last["gap"]).abs().max() < 0.8 * (last["patched"] / last["gap"]).min()


@pytest.mark.parametrize("layer", [0, 2])
def test_below_the_block_that_differs_nothing_is_recovered(layer):
    pair = child_in(architecture_pair("qwen3"), layer)
    texts = {name: ForcedText(given.prompt, [*given.text, *range(100, 140)]) for name, given in TEXTS.items()}
    found = localise(pair, texts, RUN, top=16)
    assert found.height
    below, above = found.filter(pl.col("layer") < layer), found.filter(pl.col("layer") >= layer)
    for column in ("patched", "random", "estimate"):
        assert below[column].abs().max() in (None, pytest.approx(0, abs=10 * TOLERANCE))
    assert above["patched"].abs().max() > 100 * TOLERANCE
    # At all positions every resid_post from that block on recovers everything, and the last one at any positions.
    for all_of_it in (above.filter(component="resid_post", positions="all"), found.filter(patch="L3.resid_post")):
        assert (all_of_it["patched"] / all_of_it["gap"]).to_list() == pytest.approx([1] * all_of_it.height, abs=1e-3)


def test_models_that_agree_leave_no_rows_and_persistent_patches_are_refused():
    pair = architecture_pair("llama")
    same = child_in(pair)
    assert localise(same, TEXTS, RUN).is_empty()
    assert localise(same, {}, RUN).is_empty()
    assert estimate_sites(same, "a", TEXTS["a"], RUN).is_empty()
    with pytest.raises(UsageError, match="persistent"):
        localise(pair, TEXTS, PatchRun(persistence="persistent"))
