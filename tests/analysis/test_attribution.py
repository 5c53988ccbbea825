"""Attribution patching's estimates are the gradient of the exact effect, and rank as exact effects do."""

import copy

import polars as pl
import pytest
import torch

from crosspatch.analysis import attribution
from crosspatch.analysis.attribution import Attribution, attribution_patching
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.blocks import find_blocks
from crosspatch.models.hooks import editing, reading
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Step, Steps
from crosspatch.patching.trajectory import PatchRun, Trajectory
from engines import exact_scores, fitting, hooks_and_forwards
from pairs import architecture_pair, child_in, components_of, in_bfloat16

GIVEN = ForcedText(list(range(20, 32)), [*range(40, 64)])
RUN = PatchRun()


# Windows, soft caps, sinks and experts are among them.
@torch.no_grad()
@pytest.mark.parametrize(
    "family", ["qwen3", "qwen3_moe", "gemma2", "gemma3", "gpt_oss", "gpt2", "gpt_neox", "granite", "qwen3_next"]
)
def test_the_estimate_is_the_slope_of_the_exact_effect(family):
    """How ΔL grows as the last position moves towards the source, by two plain passes over the whole sequence."""
    pair = architecture_pair(family, 0.3)
    found = attribution_patching(pair, [GIVEN], fitting(RUN, pair), components=components_of(family))
    assert set(found.cells["component"]) == set(components_of(family))
    steps = found.steps.filter("disagree").head(2)
    assert steps.height == 2
    for step, y_clean, y_corrupt in steps.select("step", "target_token_id", "source_token_id").iter_rows():
        here = found.cells.filter(step=step)
        size = here["effect"].abs().max()
        text = torch.tensor([GIVEN.read[: GIVEN.first + step + 1]])
        sites = [Site.parse(name) for name in here["patch"]]
        with reading(pair.clean, sites) as own, reading(pair.corrupted, sites) as there:
            pair.clean(text)
            pair.corrupted(text)

        def moved(site, share, text=text, own=own, there=there, wants=(y_clean, y_corrupt)):
            def edit(activation):
                edited = activation.clone()
                edited[:, -1] += share * (there[site][:, -1] - own[site][:, -1])
                return edited

            with editing(pair.clean, {site: edit}):
                logits = pair.clean(text).logits[0, -1]
            return float(logits[wants[1]] - logits[wants[0]])

        for site, effect in zip(sites, here["effect"], strict=True):
            # Two float32 logits apart by 2 % of the way, and the curve in between.
            slope = (moved(site, 1e-2) - moved(site, -1e-2)) / 2e-2
            assert effect == pytest.approx(slope, abs=5e-3 * size)


def test_below_the_block_that_differs_the_effect_is_exactly_nothing():
    pair = architecture_pair("qwen3", 0.6)
    scored = attribution_patching(child_in(pair, 2), [GIVEN], RUN).cells.filter("disagree")
    assert scored.height > 0
    assert (scored.filter(pl.col("layer") < 2)["effect"] == 0).all()
    # The control.
    assert (scored.filter(pl.col("layer") >= 2)["effect"] != 0).all()
    # A model patched into itself leaves nothing to estimate.
    itself = attribution_patching(child_in(pair), [GIVEN], RUN)
    assert not itself.steps["disagree"].any()
    assert (itself.cells["effect"] == 0).all()
    with pytest.raises(ValueError, match="same token at all 24 steps"):
        itself.ranking()


@pytest.mark.parametrize("shared", [True, False])
def test_heads_sum_to_attn_out_where_the_projection_is_shared(shared):
    """What the projection reads is a sum over heads; where the source's differs, attn_out has that change too."""
    pair = architecture_pair("llama", 0.3)
    child = copy.deepcopy(pair.corrupted)
    if shared:
        for block, other in zip(find_blocks(child), find_blocks(pair.clean), strict=True):
            block.self_attn.o_proj.load_state_dict(other.self_attn.o_proj.state_dict())
    pair = ModelPair(pair.clean, child, pair.prompts)
    cells = attribution_patching(pair, [GIVEN], RUN, components=("attn_out", "head")).cells.filter("disagree")
    sums = cells.group_by("layer", "step", "component").agg(pl.col("effect").sum()).pivot("component", values="effect")
    gap = (sums["attn_out"] - sums["head"]).abs().max()
    assert sums.height > 0
    # Sums in another order.
    assert gap < 1e-5 if shared else gap > 1e-2


def test_estimates_rank_as_exact_effects_do():
    pair = architecture_pair("qwen3", 0.05)
    found = attribution_patching(pair, [GIVEN], RUN)
    exact = exact_scores(pair, GIVEN, found.cells["patch"].unique(maintain_order=True), RUN)
    for name in ("delta_target", "delta_source"):
        assert found.steps[name].to_list() == pytest.approx([getattr(step, name) for step in exact[0].steps], abs=1e-4)
    ranks = found.rank_correlation([exact])
    assert ranks["component"].to_list() == ["resid_post", "resid_mid", "attn_out", "mlp_out", "head"]
    assert (ranks["n_sites"] == pl.Series([4, 4, 4, 4, 16])).all()
    assert ranks["cells"].min() > 0.9
    # The control: another direction's estimates for the same cells.
    wrong = Attribution(found.cells.with_columns(pl.col("effect").reverse()), found.steps)
    assert wrong.rank_correlation([exact])["cells"].max() < 0.9


@pytest.mark.parametrize("direction", ["corrupt", "repair"])
def test_gradients_along_the_way_come_nearer_than_those_at_its_beginning(direction):
    pair, run = architecture_pair("qwen3", 0.1), PatchRun(direction)
    errors = []
    for ig_steps in (0, 1):
        cells = attribution_patching(pair, [GIVEN], run, components=("resid_post", "attn_out"), ig_steps=ig_steps).cells
        exact = exact_scores(pair, GIVEN, cells["patch"].unique(maintain_order=True), run)
        effects = [step.moved for trajectory in exact for step in trajectory.steps]
        wrong = cells.with_columns(error=(pl.col("effect") - pl.Series(effects)).abs()).filter("disagree")
        errors.append(dict(wrong.group_by("component").agg(pl.col("error").mean()).iter_rows()))
    assert errors[1]["resid_post"] < 0.8 * errors[0]["resid_post"]
    # A patched part leaves the rest of the stream as it is, so its gradient is taken at the target's own activations.
    assert errors[1]["attn_out"] == pytest.approx(errors[0]["attn_out"])


def test_exchanging_the_models_exchanges_the_directions():
    pair = architecture_pair("gpt2", 0.3)
    there = attribution_patching(pair, [GIVEN], RUN)
    back = attribution_patching(ModelPair(pair.corrupted, pair.clean, pair.prompts), [GIVEN], PatchRun("repair"))
    assert back.cells["effect"].to_numpy() == pytest.approx(-there.cells["effect"].to_numpy(), abs=1e-5)
    # ΔL changes its sign with the names of the models; what transfers does not.
    assert back.gap == pytest.approx(-there.gap, rel=1e-5)
    assert there.gap > 0
    assert back.top(5) == there.top(5)


def test_how_positions_are_split_and_who_calls_changes_nothing(monkeypatch):
    pair = architecture_pair("gemma3", 0.3)
    texts = [GIVEN, ForcedText(GIVEN.prompt[:1], GIVEN.text[::-1])]
    whole = attribution_patching(pair, texts, RUN, ig_steps=1)
    for model in (pair.clean, pair.corrupted):
        assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert hooks_and_forwards(pair.clean, pair.corrupted) == 0
    assert whole.steps.group_by("text").len()["len"].to_list() == [24, 24]
    monkeypatch.setattr(attribution, "POSITIONS_AT_ONCE", 3)
    with torch.inference_mode():
        parts = attribution_patching(pair, texts, RUN, ig_steps=1)
    assert parts.cells["effect"].to_numpy() == pytest.approx(whole.cells["effect"].to_numpy(), abs=1e-4)
    assert parts.cells.drop("effect").equals(whole.cells.drop("effect"))


def test_half_precision_gives_nearly_the_same():
    pair = architecture_pair("qwen3", 0.1)
    exact, rough = (
        attribution_patching(each, [GIVEN], RUN, ig_steps=1).cells.filter("disagree")
        for each in (pair, in_bfloat16(pair))
    )
    both = exact.join(rough, on=["patch", "step"])
    assert both.height > 200
    assert both.select(pl.corr("effect", "effect_right")).item() > 0.95


def made_by_hand(deltas=("delta_target", "delta_source")) -> Attribution:
    """Two texts of two steps; L0 and L1; the models disagree at three steps, apart by 4, 2 and 2 logits."""
    steps = pl.DataFrame(
        [(0, 0, -1.0, 3.0, True), (0, 1, 0.0, 0.0, False), (1, 0, 0.0, 2.0, True), (1, 1, -1.0, 1.0, True)],
        schema=["text", "step", *deltas, "disagree"],
        orient="row",
    )
    effects = {"L0.resid_post": (1.0, 0.0, 1.0, 0.0), "L1.resid_post": (3.0, 0.0, -1.0, 2.0)}
    cells = [
        steps.select("text", "step", "disagree", effect=pl.Series(values)).with_columns(
            pl.lit(value).alias(column) for column, value in Patch.parse(name).columns.items()
        )
        for name, values in effects.items()
    ]
    return Attribution(pl.concat(cells), steps)


def test_sites_rank_by_the_share_that_they_transfer():
    found = made_by_hand()
    # (3 - 1 + 2) / 8 and (1 + 1 + 0) / 8.
    assert found.ranking().select("patch", "recovered_fraction", "mean_size").rows() == [
        ("L1.resid_post", 0.5, 2.0),
        ("L0.resid_post", 0.25, pytest.approx(2 / 3)),
    ]
    assert found.top(1) == [Patch((Site(1),))]
    # In the repair direction the source is the clean model: its ΔLs are the lower ones.
    assert made_by_hand(("delta_source", "delta_target")).ranking()["recovered_fraction"].to_list() == [-0.25, -0.5]


def test_correlations_worked_out_by_hand():
    def exact(name, *patched):
        steps = [Step(0, 0, 1, 1.0, 9.0, 1 + value, 0.0, 0.0, 1, True) for value in patched]
        return Trajectory(Patch.parse(f"{name}@disagree"), 1, Steps(steps))

    # Estimates 1, 3 | 1, 0, -1, 2 where the models disagree, with exact effects that exchange two of six ranks ...
    given = [
        [exact("L0.resid_post", 1.0, 99.0), exact("L1.resid_post", 2.0, -99.0)],
        [exact("L0.resid_post", 1.0, 0.0), exact("L1.resid_post", -1.0, 3.0)],
    ]
    ranks = made_by_hand().rank_correlation(given)
    # Ranks 3.5, 6, 3.5, 2, 1, 5 against 3.5, 5, 3.5, 2, 1, 6: squares of either sum to 17, products to 16.
    assert ranks.select("component", "n_cells", "n_sites").row(0) == ("resid_post", 6, 2)
    assert ranks.select("cells", "sites").row(0) == pytest.approx((16 / 17, 1))
    # One site alone has no rank.
    assert made_by_hand().rank_correlation([given[0][:1], given[1][:1]])["sites"].to_list() == [None]


def test_wrong_use_is_refused():
    for texts, run, options, words in (
        ([GIVEN], PatchRun(persistence="persistent"), {}, "persistent"),
        ([GIVEN], RUN, {"ig_steps": -1}, "got ig_steps -1"),
        ([], RUN, {}, "no text"),
        ([ForcedText([1], [])], RUN, {}, "empty prompt or text"),
        ([ForcedText([], [1])], RUN, {}, "empty prompt or text"),
        ([GIVEN], RUN, {"components": ("resid_mid",)}, "has resid_mid to patch"),
    ):
        with pytest.raises(ValueError, match=words):
            attribution_patching(architecture_pair("gpt_neox", 0.3), texts, run, **options)
