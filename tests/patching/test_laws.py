"""Laws of patching, each with its negative control."""

from __future__ import annotations

import copy

import polars as pl
import pytest
import torch

from crosspatch.models.blocks import editing, find_blocks, reading
from crosspatch.models.forward import last_logits
from crosspatch.models.pair import ModelPair
from crosspatch.patching.reference import patched_logits
from crosspatch.patching.sites import Patch, Site, layer_patches
from crosspatch.patching.sweep import patch_prompt
from crosspatch.patching.trajectory import PatchRun
from pairs import QUESTION

ENGINES = ("cached", "reference")
RUN = PatchRun(max_new_tokens=8)


def swept(pair, engine, run=RUN):
    return patch_prompt(pair, "p", QUESTION, layer_patches("all", pair.n_layers), run, engine)[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("persistence", ["transient", "persistent"])
def test_a_model_patched_into_itself_gives_its_own_numbers_to_the_bit(pair, engine, persistence):
    itself = ModelPair(pair.clean, copy.deepcopy(pair.clean), pair.prompts)
    scores = swept(itself, engine, PatchRun(persistence=persistence, max_new_tokens=8))
    assert (scores["status"] == "agree").all()
    assert (scores["token_id"] == scores["clean_token_id"]).all()
    # Every logit enters the KL: not a bit of any has moved.
    assert (scores["kl_patched"] == 0).all()
    assert (scores["kl_clean"] == 0).all()
    assert (scores["rank_corrupted"] == 1).all()
    # The control: another model's activations do move them.
    other = swept(pair, engine, PatchRun(persistence=persistence, max_new_tokens=8))
    assert (other["kl_patched"] > 0).all()


@torch.inference_mode()
def test_self_patched_logits_are_bit_identical(pair):
    tokens = torch.tensor([pair.encode(QUESTION)])
    own = last_logits(pair.clean, tokens)
    for layer in range(pair.n_layers):
        site = Patch((Site(layer),))
        last = tokens.shape[1] - 1
        assert torch.equal(patched_logits(pair.clean, pair.clean, tokens, site, last), own)
        assert not torch.equal(patched_logits(pair.clean, pair.corrupted, tokens, site, last), own)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("block", [1, 3])
def test_below_the_block_that_differs_nothing_transfers(pair, engine, block):
    child = copy.deepcopy(pair.clean)
    find_blocks(child)[block].load_state_dict(find_blocks(pair.corrupted)[block].state_dict())
    scores = swept(ModelPair(pair.clean, child, pair.prompts), engine)
    below, above = (scores.filter(side) for side in (pl.col("layer") < block, pl.col("layer") >= block))
    assert (below["delta_patched"] == below["delta_clean"]).all()
    assert (below["kl_patched"] == below["kl_clean"]).all()
    scored = below.filter(pl.col("status") == "ok")
    assert scored.height > 0
    assert (scored["cts"] == 0).all()
    # The control: from the block on it does. All of it only if no later block reads a past that differs.
    scored = above.filter(pl.col("status") == "ok")
    assert scored.height > 0
    assert (scored["cts"] != 0).all()
    if block == pair.n_layers - 1:
        assert (scored["cts"] - 1).abs().max() < 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_block_carries_everything_when_the_unembedding_is_shared(pair, engine):
    child = copy.deepcopy(pair.corrupted)
    shared, own = (dict(model.named_parameters()) for model in (pair.clean, child))
    inside = {name for name, _ in child.named_parameters() if any(part.isdigit() for part in name.split("."))}
    with torch.no_grad():
        for name in own.keys() - inside:
            own[name].copy_(shared[name])
    pair = ModelPair(pair.clean, child, pair.prompts)
    scores = swept(pair, engine)
    last = scores.filter(pl.col("layer") == pair.n_layers - 1)
    assert last["kl_patched"].max() < 1e-5
    assert (last["token_id"] == last["corrupted_token_id"]).all()
    first = scores.filter(pl.col("layer") == 0)
    assert first["kl_patched"].max() > 1e-2


@torch.inference_mode()
@pytest.mark.parametrize("layer", [0, 2])
def test_a_transient_patch_leaves_other_positions_as_they_were(pair, layer):
    """Later positions read a clean past: in the reference form each step's patch touches its last position only."""
    tokens = torch.tensor([pair.encode(QUESTION)])
    where = tokens.shape[1] // 2
    with reading(pair.corrupted, [layer]) as read:
        pair.corrupted(tokens)

    def at_one_position(hidden):
        return torch.cat([hidden[:, :where], read[layer][:, where : where + 1], hidden[:, where + 1 :]], dim=1)

    plain = pair.clean(tokens).logits[0]
    with editing(pair.clean, {layer: at_one_position}):
        patched = pair.clean(tokens).logits[0]
    assert torch.equal(patched[:where], plain[:where])
    assert not torch.allclose(patched[where], plain[where])
    # That is the persistent form: one pass with the patched past. Positions after it have moved.
    assert not torch.allclose(patched[where + 1 :], plain[where + 1 :])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_past_of_a_transient_patch_is_clean_and_of_a_persistent_one_is_not(qwen3_pair, engine):
    """Step 1 of a transient trajectory equals a fresh run whose prompt is one token longer."""
    pair = ModelPair(
        qwen3_pair.clean,
        qwen3_pair.corrupted,
        type(qwen3_pair.prompts)(qwen3_pair.prompts.tokenizer, raw=True),
    )
    site = layer_patches([1], pair.n_layers)
    ids = pair.encode("5x + 3 = 18")

    def second_step(persistence):
        from crosspatch.patching.sweep import ENGINES as BY_NAME

        first = BY_NAME[engine](pair, ids, site, PatchRun("corrupt", persistence, 2))[0]
        longer = BY_NAME[engine](pair, [*ids, first.tokens[0]], site, PatchRun("corrupt", persistence, 1))[0]
        return first.steps[1]["kl_patched"], longer.steps[0]["kl_patched"]

    assert second_step("transient")[0] == pytest.approx(second_step("transient")[1], abs=1e-5)
    assert second_step("persistent")[0] != pytest.approx(second_step("persistent")[1], abs=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_exchanging_the_models_exchanges_the_directions(pair, engine):
    exchanged = ModelPair(pair.corrupted, pair.clean, pair.prompts)
    corrupt = swept(pair, engine)
    repair = swept(exchanged, engine, PatchRun("repair", max_new_tokens=8))
    assert corrupt["token_id"].equals(repair["token_id"])
    assert corrupt["clean_token_id"].equals(repair["corrupted_token_id"])
    both = pl.DataFrame({"there": corrupt["cts"], "back": repair["cts"]}).drop_nulls()
    assert both.height > 10
    assert (both["there"] + both["back"] - 1).abs().max() < 1e-2


def test_no_hook_is_left_after_an_exception(qwen3_pair, monkeypatch):
    from crosspatch.patching import engine

    models = (qwen3_pair.clean, qwen3_pair.corrupted)

    def hooks():
        return [len(block._forward_hooks) for model in models for block in find_blocks(model)]

    before = hooks()
    monkeypatch.setattr(engine, "_moved", lambda *_: lambda hidden: hidden / (1 // 0))
    with pytest.raises(ZeroDivisionError):
        swept(qwen3_pair, "cached")
    assert hooks() == before
