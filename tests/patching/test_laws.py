"""Laws of patching, each with its negative control."""

from __future__ import annotations

import copy

import polars as pl
import pytest
import torch

from crosspatch.models.blocks import find_blocks, text_config
from crosspatch.models.hooks import editing, reading
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.unembedding import last_logits
from crosspatch.patching.engine import Prompt, run_cached
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.reference import patched_logits, run_reference
from crosspatch.patching.trajectory import PatchRun
from engines import CTS_TOLERANCE, LARGE_DENOMINATOR, hooks_and_forwards, remembered_unpatched_passes, table
from pairs import QUESTION, architecture_pair

ENGINES = ("cached", "reference")
RUN = PatchRun(max_new_tokens=6)
PERSISTENT = PatchRun(persistence="persistent", max_new_tokens=6)
RESID = patch_grid("all", 4)
# Each component, in a low and in the last block.
EVERYWHERE = patch_grid([1, 3], 4, ("resid_post", "resid_mid", "attn_out", "mlp_out", "head"), heads=[2], n_heads=4)
# The cached engine's streams sum the same terms in another order than one another: float32 through four blocks.
ROUNDING = 1e-5


def swept(pair, engine, run=RUN, patches=RESID, ids=None):
    ids = pair.encode(QUESTION) if ids is None else ids
    if engine == "cached":
        return table(pair, run_cached(pair, [Prompt(ids, patches)], run)[0].trajectories, run)
    with remembered_unpatched_passes():
        return table(pair, run_reference(pair, ids, patches, run), run)


def wide(scores: pl.DataFrame) -> pl.DataFrame:
    """Steps with a score that rounding can hardly touch."""
    return scores.filter(
        (pl.col("status") == "ok") & ((pl.col("delta_corrupted") - pl.col("delta_clean")).abs() > LARGE_DENOMINATOR)
    )


def mixed(pair, name_is_child) -> ModelPair:
    """The clean model, and one that has the child's parameters where the function says so of their names."""
    child = copy.deepcopy(pair.clean)
    changed = dict(pair.corrupted.named_parameters())
    with torch.no_grad():
        for name, own in child.named_parameters():
            if name_is_child(name):
                own.copy_(changed[name])
    return ModelPair(pair.clean, child, pair.prompts)


def block_of(name: str) -> int | None:
    """The block that a parameter belongs to."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


@pytest.mark.parametrize("run", [RUN, PERSISTENT], ids=["transient", "persistent"])
def test_the_reference_patched_into_itself_is_itself_to_the_bit(pair, run):
    itself = ModelPair(pair.clean, copy.deepcopy(pair.clean), pair.prompts)
    scores = swept(itself, "reference", run, EVERYWHERE)
    assert (scores["status"] == "agree").all()
    assert (scores["token_id"] == scores["clean_token_id"]).all()
    # Every logit enters the KL: not a bit of any has moved.
    assert (scores["kl_patched"] == 0).all()
    assert (scores["rank_corrupted"] == 1).all()


@pytest.mark.parametrize("run", [RUN, PERSISTENT], ids=["transient", "persistent"])
def test_the_engine_patched_into_itself_is_itself_but_for_rounding(pair, run):
    itself = ModelPair(pair.clean, copy.deepcopy(pair.clean), pair.prompts)
    scores = swept(itself, "cached", run, EVERYWHERE)
    assert (scores["token_id"] == scores["clean_token_id"]).all()
    # ΔL is 0 where both predict the same token, and here they always do.
    assert (scores["status"] == "agree").all()
    assert (scores["delta_patched"] == 0).all()
    assert scores["kl_patched"].abs().max() < ROUNDING
    assert (scores["rank_corrupted"] == 1).all()
    # The control: another model's activations do move them.
    other = swept(pair, "cached", run, EVERYWHERE)
    assert other["kl_patched"].min() > 10 * ROUNDING


@torch.inference_mode()
@pytest.mark.parametrize("patch", EVERYWHERE, ids=lambda patch: patch.name)
def test_self_patched_logits_are_bit_identical(pair, patch):
    tokens = torch.tensor([pair.encode(QUESTION)])
    own = last_logits(pair.clean, tokens)
    last = [tokens.shape[1] - 1]
    assert torch.equal(patched_logits(pair.clean, pair.clean, tokens, patch, last, RUN), own)
    assert not torch.equal(patched_logits(pair.clean, pair.corrupted, tokens, patch, last, RUN), own)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("block", [1, 3])
def test_below_the_block_that_differs_nothing_transfers(pair, engine, block):
    scores = swept(mixed(pair, lambda name: block_of(name) == block), engine)
    below, above = (scores.filter(side) for side in (pl.col("layer") < block, pl.col("layer") >= block))
    # What is moved in below is the target's own, to the bit. The reference then computes the same numbers; the
    # engine's second stream those of its first in another order.
    tolerance = 0 if engine == "reference" else ROUNDING
    assert (below["delta_patched"] - below["delta_clean"]).abs().max() <= tolerance
    assert (below["kl_patched"] - below["kl_clean"]).abs().max() <= tolerance
    assert (below["token_id"] == below["clean_token_id"]).all()
    assert wide(below).height > 0
    assert wide(below)["cts"].abs().max() <= (0 if engine == "reference" else CTS_TOLERANCE)
    # The control: from the block on it does. All of it only if no later block reads a past that differs.
    assert wide(above).height > 0
    assert wide(above)["cts"].abs().min() > CTS_TOLERANCE
    if block == pair.n_layers - 1:
        assert (wide(above)["cts"] - 1).abs().max() < CTS_TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("component", ["attn_out", "mlp_out"])
def test_only_the_half_that_differs_transfers(pair, engine, component):
    """Of the last block: what stands after it reads that half and nothing else that differs."""
    halves = {"attn_out": ("attn.", "self_attn."), "mlp_out": ("mlp.",)}
    here = mixed(pair, lambda name: block_of(name) == 3 and any(f".{half}" in name for half in halves[component]))
    scores = swept(here, engine, patches=patch_grid([3], 4, ("attn_out", "mlp_out")))
    that, other = (wide(scores.filter(side)) for side in (pl.col("component") == component, pl.lit(True)))
    assert that.height > 0
    if component == "mlp_out":
        assert (that["cts"] - 1).abs().max() < CTS_TOLERANCE
        attention = other.filter(pl.col("component") == "attn_out")
        assert attention["cts"].abs().max() < CTS_TOLERANCE
    else:
        # The MLP reads the attention's half: moving either moves some of it.
        assert (that["cts"] - 1).abs().max() < CTS_TOLERANCE
        assert other.filter(pl.col("component") == "mlp_out")["cts"].abs().max() > CTS_TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_block_carries_everything_when_the_unembedding_is_shared(pair, engine):
    scores = swept(mixed(pair, lambda name: block_of(name) is not None), engine)
    last = scores.filter(pl.col("layer") == pair.n_layers - 1)
    assert last["kl_patched"].max() < ROUNDING
    assert (last["token_id"] == last["corrupted_token_id"]).all()
    assert (wide(last)["cts"] - 1).abs().max() < CTS_TOLERANCE
    # The control: the first block does not.
    first = scores.filter(pl.col("layer") == 0)
    assert first["kl_patched"].max() > 1e-2


@torch.inference_mode()
@pytest.mark.parametrize("layer", [0, 2])
def test_what_a_patch_at_one_position_reaches(pair, layer):
    """Earlier positions stay; later ones move as soon as they read the patched past, which is the persistent form."""
    tokens = torch.tensor([pair.encode(QUESTION)])
    where = tokens.shape[1] // 2
    site = Site(layer)
    with reading(pair.corrupted, [site]) as read:
        pair.corrupted(tokens)

    def at_one_position(hidden):
        return torch.cat([hidden[:, :where], read[site][:, where : where + 1], hidden[:, where + 1 :]], dim=1)

    plain = pair.clean(tokens).logits[0]
    with editing(pair.clean, {site: at_one_position}):
        patched = pair.clean(tokens).logits[0]
    assert torch.equal(patched[:where], plain[:where])
    assert not torch.allclose(patched[where], plain[where])
    assert not torch.allclose(patched[where + 1 :], plain[where + 1 :])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("patch", EVERYWHERE[:5], ids=lambda patch: patch.name)
def test_the_past_of_a_transient_patch_is_clean_and_of_a_persistent_one_is_not(engine, patch):
    """A later step of a transient trajectory equals the first one of a run whose prompt is that much longer."""
    pair = architecture_pair("qwen3")
    ids = pair.encode(QUESTION)

    def later_and_fresh(persistence):
        run = PatchRun("corrupt", persistence, 4)
        first = swept(pair, engine, run, [patch], ids)
        longer = swept(pair, engine, run, [patch], [*ids, *first["token_id"][:2].to_list()])
        return first["kl_patched"][2], longer["kl_patched"][0]

    later, fresh = later_and_fresh("transient")
    assert later == pytest.approx(fresh, abs=ROUNDING)
    later, fresh = later_and_fresh("persistent")
    assert later != pytest.approx(fresh, abs=10 * ROUNDING)


@pytest.mark.parametrize("run", [RUN, PERSISTENT], ids=["transient", "persistent"])
@pytest.mark.parametrize("engine", ENGINES)
def test_exchanging_the_models_exchanges_the_directions(pair, engine, run):
    exchanged = ModelPair(pair.corrupted, pair.clean, pair.prompts)
    corrupt = swept(pair, engine, run, EVERYWHERE)
    repair = swept(exchanged, engine, PatchRun("repair", run.persistence, run.max_new_tokens), EVERYWHERE)
    assert corrupt["token_id"].equals(repair["token_id"])
    assert corrupt["clean_token_id"].equals(repair["corrupted_token_id"])
    both = corrupt.with_columns(back=repair["cts"]).pipe(wide)
    assert both.height > 10
    assert (both["cts"] + both["back"] - 1).abs().max() < CTS_TOLERANCE
    # The control: without exchanging the models it is another experiment.
    other = swept(pair, engine, PatchRun("repair", run.persistence, run.max_new_tokens), EVERYWHERE)
    assert not corrupt["token_id"].equals(other["token_id"])


@pytest.mark.parametrize("engine", ENGINES)
def test_cts_of_the_clean_model_is_0_and_of_the_corrupted_one_1(pair, engine):
    """A child with the clean unembedding, wholly moved in at the last block, and nothing moved in at all."""
    shared = mixed(pair, lambda name: block_of(name) is not None)
    for patch, expected in ((Patch((Site(3),)), 1), (Patch.parse("L3.resid_post@steps:99-"), 0)):
        scores = swept(shared, engine, patches=[patch])
        differing = scores.filter(
            (pl.col("delta_corrupted") - pl.col("delta_clean")).abs() > LARGE_DENOMINATOR,
            pl.col("clean_token_id") != pl.col("corrupted_token_id"),
        )
        assert differing.height > 0
        deltas = (differing[name] for name in ("delta_clean", "delta_corrupted", "delta_patched"))
        clean, corrupted, patched = deltas
        assert ((patched - clean) / (corrupted - clean) - expected).abs().max() < CTS_TOLERANCE


class BrokenError(Exception):
    """Raised by the tests inside a pass."""


def breaking(after: int):
    """A hook that raises at its so many-th call."""
    calls = [0]

    def hook(*_):
        calls[0] += 1
        if calls[0] > after:
            raise BrokenError

    return hook


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("which", "after"), [("clean", 0), ("corrupted", 2), ("clean", 5)])
def test_nothing_is_left_on_the_models_after_an_exception_inside_a_pass(pair, engine, which, after):
    models = (pair.clean, pair.corrupted)
    # What is looked at once is looked at now.
    before = swept(pair, engine, patches=RESID[:1])
    own = [model.config._attn_implementation for model in models]
    assert hooks_and_forwards(*models) == 0
    model = getattr(pair, which)
    handle = find_blocks(model)[2].register_forward_hook(breaking(after))
    try:
        with pytest.raises(BrokenError):
            swept(pair, engine, patches=EVERYWHERE)
        assert hooks_and_forwards(*models) == 1  # the test's own
    finally:
        handle.remove()
    assert [model.config._attn_implementation for model in models] == own
    assert [text_config(model)._attn_implementation for model in models] == own
    assert swept(pair, engine, patches=RESID[:1]).equals(before)


def test_nothing_is_left_on_the_models_after_an_exception_in_the_unembedding(pair):
    """While the body is replaced."""
    models = (pair.clean, pair.corrupted)
    head = pair.clean.get_output_embeddings()
    handle = head.register_forward_hook(breaking(2))
    try:
        with pytest.raises(BrokenError):
            swept(pair, "cached")
        assert hooks_and_forwards(*models) == 1
    finally:
        handle.remove()
    assert hooks_and_forwards(*models) == 0
