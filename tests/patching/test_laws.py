"""Laws of patching, each with its negative control."""

import copy
from dataclasses import replace
from itertools import count, product
from typing import get_args

import polars as pl
import pytest
import torch

from crosspatch.config import Engine
from crosspatch.models.blocks import find_blocks
from crosspatch.models.hooks import editing, reading
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.unembedding import last_logits
from crosspatch.patching.batches import generate
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.reference import patched_logits, run_reference
from crosspatch.patching.trajectory import PatchRun, Prompt
from engines import CTS_TOLERANCE, DELTAS, LARGE_DENOMINATOR, PERSISTENCES, hooks_and_forwards, remembered_passes, table
from pairs import ARCHITECTURES, QUESTION, architecture_pair, child_in, make_pair

# The reference does the same on every architecture; `test_architectures` compares the cached engine with it on all.
ENGINES = [*((name, "cached") for name in ARCHITECTURES), ("qwen3", "any_cache"), ("qwen3", "reference")]
RUN = PatchRun(max_new_tokens=6)
RESID = patch_grid("all", 4)
# Each component, in a low block and in the last one.
EVERYWHERE = patch_grid([1, 3], 4, ("resid_post", "resid_mid", "attn_out", "mlp_out", "head"), heads=[2], n_heads=4)
# The cached engine's two streams sum the same terms in different orders: float32 through four blocks.
ROUNDING = 1e-5


def swept(pair, engine, run=RUN, patches=RESID, ids=None):
    ids = pair.encode(QUESTION) if ids is None else ids
    if engine != "reference":
        return table(pair, generate(pair, [Prompt(ids, patches)], replace(run, engine=engine))[0].trajectories, run)
    with remembered_passes(patches):
        return table(pair, run_reference(pair, ids, patches, run), run)


def wide(scores: pl.DataFrame) -> pl.DataFrame:
    """Steps with a CTS whose denominator is large compared with rounding."""
    denominator = scores["delta_corrupted"] - scores["delta_clean"]
    return scores.filter(denominator.abs() > LARGE_DENOMINATOR, status="ok")


def either(*variants) -> list[tuple]:
    """Engines and architectures, each with every variant."""
    return [(*case, variant) for case, variant in product(ENGINES, variants)]


@torch.inference_mode()
def test_self_patched_logits_are_bit_identical(pair):
    tokens = torch.tensor([pair.encode(QUESTION)])
    own = last_logits(pair.clean, tokens)
    last = tokens.shape[1] - 1
    for patch, positions in product(EVERYWHERE, ([last], [last - 2, last - 1, last])):
        assert torch.equal(patched_logits(pair.clean, pair.clean, tokens, patch, positions, RUN), own)
        assert not torch.equal(patched_logits(pair.clean, pair.corrupted, tokens, patch, positions, RUN), own)


@pytest.mark.parametrize(("name", "persistence"), list(product(ARCHITECTURES, PERSISTENCES)))
def test_the_engine_patched_into_itself_is_itself_but_for_rounding(name, persistence):
    pair, run = make_pair(name), PatchRun(persistence=persistence, max_new_tokens=6)
    itself = ModelPair(pair.clean, copy.deepcopy(pair.clean), pair.prompts)
    scores = swept(itself, "cached", run, EVERYWHERE)
    assert (scores["token_id"] == scores["clean_token_id"]).all()
    # ΔL is 0 where both predict the same token, and here they always do.
    assert (scores["status"] == "agree").all()
    assert (scores["delta_patched"] == 0).all()
    assert scores["kl_patched"].abs().max() < ROUNDING
    assert (scores["rank_corrupted"] == 1).all()
    if name == "qwen3":
        exact = swept(itself, "reference", run, EVERYWHERE)
        assert (exact["token_id"] == exact["clean_token_id"]).all()
        assert ((exact["status"] == "agree") & (exact["kl_patched"] == 0) & (exact["rank_corrupted"] == 1)).all()
    # The control: another model's activations change the KL.
    other = swept(pair, "cached", run, EVERYWHERE)
    assert other["kl_patched"].min() > 10 * ROUNDING


@pytest.mark.parametrize(("name", "engine", "block"), either(1, 3))
def test_below_the_block_that_differs_nothing_transfers(name, engine, block):
    pair = make_pair(name)
    scores = swept(child_in(pair, block), engine)
    below, above = (scores.filter(side) for side in (pl.col("layer") < block, pl.col("layer") >= block))
    # Below the block the source's activations equal the target's, to the bit. The reference then computes the same
    # numbers; the engine's second stream computes them in another order.
    tolerance = 0 if engine == "reference" else ROUNDING
    assert (below["delta_patched"] - below["delta_clean"]).abs().max() <= tolerance
    assert (below["kl_patched"] - below["kl_clean"]).abs().max() <= tolerance
    assert (below["token_id"] == below["clean_token_id"]).all()
    assert wide(below).height > 0
    assert wide(below)["cts"].abs().max() <= (0 if engine == "reference" else CTS_TOLERANCE)
    # The control: from the block on something transfers; all of it only if no later block reads a past that differs.
    assert wide(above).height > 0
    assert wide(above)["cts"].abs().min() > CTS_TOLERANCE
    if block == pair.n_layers - 1:
        assert (wide(above)["cts"] - 1).abs().max() < CTS_TOLERANCE


@pytest.mark.parametrize(("name", "engine", "component"), either("attn_out", "mlp_out"))
def test_only_the_half_that_differs_transfers(name, engine, component):
    """Of the last block: what stands after it reads that half and nothing else that differs."""
    parts = {"attn_out": "attn" if name == "gpt2" else "self_attn", "mlp_out": "mlp"}
    here = child_in(make_pair(name), 3, part=parts[component])
    scores = wide(swept(here, engine, patches=patch_grid([3], 4, ("attn_out", "mlp_out"))))
    half, other = scores.filter(component=component), scores.filter(pl.col("component") != component)
    assert half.height > 0
    assert (half["cts"] - 1).abs().max() < CTS_TOLERANCE
    if component == "mlp_out":
        assert other["cts"].abs().max() < CTS_TOLERANCE
    else:
        # The MLP reads the attention's output, so patching its output transfers a part.
        assert other["cts"].abs().max() > CTS_TOLERANCE


@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_the_last_block_carries_everything_when_the_unembedding_is_shared(name, engine):
    """So CTS of the corrupted model is 1, and of the clean one, which is what an idle patch leaves, 0."""
    idle = Patch.parse("L3.resid_post@steps:99-")
    scores = swept(child_in(make_pair(name), *range(4)), engine, patches=[*RESID, idle])
    last = scores.filter(patch="L3.resid_post")
    assert last["kl_patched"].max() < ROUNDING
    assert (last["token_id"] == last["corrupted_token_id"]).all()
    assert (wide(last)["cts"] - 1).abs().max() < CTS_TOLERANCE
    # The control: the first block does not.
    assert scores.filter(layer=0)["kl_patched"].max() > 1e-2
    for name_of_patch, expected in (("L3.resid_post", 1), (idle.name, 0)):
        differing = scores.filter(pl.col("clean_token_id") != pl.col("corrupted_token_id"), patch=name_of_patch)
        clean, corrupted, patched = (differing[column] for column in DELTAS)
        large = (corrupted - clean).abs() > LARGE_DENOMINATOR
        assert large.any()
        assert ((patched - clean) / (corrupted - clean) - expected).filter(large).abs().max() < CTS_TOLERANCE
        assert (patched - (corrupted if expected else clean)).abs().max() < LARGE_DENOMINATOR * CTS_TOLERANCE


@torch.inference_mode()
def test_what_a_patch_at_one_position_reaches(pair):
    """Earlier positions stay equal; later ones change as soon as they read the patched past: the persistent form."""
    tokens = torch.tensor([pair.encode(QUESTION)])
    where = tokens.shape[1] // 2
    plain = pair.clean(tokens).logits[0]
    for site in (Site(0), Site(2)):
        with reading(pair.corrupted, [site]) as read:
            pair.corrupted(tokens)
        there = read[site][:, [where]]
        with editing(pair.clean, {site: lambda own, there=there: own.index_copy(1, torch.tensor([where]), there)}):
            patched = pair.clean(tokens).logits[0]
        assert torch.equal(patched[:where], plain[:where])
        assert not torch.allclose(patched[where], plain[where])
        assert not torch.allclose(patched[where + 1 :], plain[where + 1 :])


@pytest.mark.parametrize("engine", get_args(Engine))
@pytest.mark.parametrize("patch", EVERYWHERE[:5], ids=lambda patch: patch.name)
def test_the_past_of_a_transient_patch_is_clean_and_of_a_persistent_one_is_not(engine, patch):
    """A later step of a transient trajectory equals the first one of a run whose prompt is that much longer."""
    pair = architecture_pair("qwen3")
    ids = pair.encode(QUESTION)
    for persistence in PERSISTENCES:
        run = PatchRun("corrupt", persistence, 3)
        first = swept(pair, engine, run, [patch], ids)
        longer = swept(pair, engine, run, [patch], [*ids, *first["token_id"][:2].to_list()])
        apart = abs(first["kl_patched"][2] - longer["kl_patched"][0])
        assert apart < ROUNDING if persistence == "transient" else apart > 10 * ROUNDING


@pytest.mark.parametrize(("name", "engine", "persistence"), either(*PERSISTENCES))
def test_exchanging_the_models_exchanges_the_directions(name, engine, persistence):
    pair = make_pair(name)
    run, back = (PatchRun(direction, persistence, 6) for direction in ("corrupt", "repair"))
    exchanged = ModelPair(pair.corrupted, pair.clean, pair.prompts)
    corrupt = swept(pair, engine, run, EVERYWHERE)
    repair = swept(exchanged, engine, back, EVERYWHERE)
    assert corrupt["token_id"].equals(repair["token_id"])
    assert corrupt["clean_token_id"].equals(repair["corrupted_token_id"])
    both = corrupt.with_columns(back=repair["cts"]).pipe(wide)
    assert both.height > 10
    assert (both["cts"] + both["back"] - 1).abs().max() < CTS_TOLERANCE
    # The control: without exchanging the models it is another experiment.
    assert not corrupt["token_id"].equals(swept(pair, engine, back, EVERYWHERE)["token_id"])


@pytest.mark.parametrize(
    ("name", "engine", "which", "after", "where"),
    [
        ("qwen3", "cached", "clean", 0, "block"),
        ("llama", "cached", "corrupted", 2, "block"),
        ("gpt2", "cached", "clean", 5, "block"),
        ("gpt2", "reference", "corrupted", 2, "block"),
        ("qwen3", "reference", "clean", 5, "block"),
        # While the body is replaced.
        ("llama", "cached", "clean", 2, "unembedding"),
    ],
)
def test_nothing_is_left_on_the_models_after_an_exception_inside_a_pass(name, engine, which, after, where):
    pair, calls = make_pair(name), count()
    models = (pair.clean, pair.corrupted)

    def breaking(*_):
        if next(calls) >= after:
            raise InterruptedError

    # The first sweep examines the models, which happens once.
    before = swept(pair, engine, patches=RESID[:1])
    own = [model.config._attn_implementation for model in models]
    assert hooks_and_forwards(*models) == 0
    model = getattr(pair, which)
    module = find_blocks(model)[2] if where == "block" else model.get_output_embeddings()
    handle = module.register_forward_hook(breaking)
    try:
        with pytest.raises(InterruptedError):
            swept(pair, engine, patches=EVERYWHERE)
        assert hooks_and_forwards(*models) == 1  # the test's own
    finally:
        handle.remove()
    assert [model.config._attn_implementation for model in models] == own

    assert swept(pair, engine, patches=RESID[:1]).equals(before)
