"""Laws of patching, each with its negative control."""

from __future__ import annotations

import copy

import polars as pl
import pytest
import torch

from crosspatch.models.blocks import find_blocks, text_config
from crosspatch.models.forward import last_logits
from crosspatch.models.hooks import editing, reading
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching import rounds
from crosspatch.patching.engine import Prompt, run_cached
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.reference import patched_logits, run_reference
from crosspatch.patching.trajectory import PatchRun
from engines import hooks_and_forwards, table
from pairs import QUESTION

ENGINES = {
    "cached": lambda pair, ids, patches, run: run_cached(pair, [Prompt(ids, patches)], run)[0].trajectories,
    "reference": run_reference,
}
RUN = PatchRun(max_new_tokens=8)
# Logits and nats. The reference computes its three states alike, to the bit; the cached engine's patched positions
# stand beside the clean stream and sum in another order.
ROUNDING = {"reference": 0.0, "cached": 2e-5}


def swept(pair, engine, run=RUN):
    patches = patch_grid("all", pair.n_layers)
    return table(pair, ENGINES[engine](pair, pair.encode(QUESTION), patches, run), run)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("persistence", ["transient", "persistent"])
def test_a_model_patched_into_itself_gives_its_own_numbers(pair, engine, persistence):
    itself = ModelPair(pair.clean, copy.deepcopy(pair.clean), pair.prompts)
    scores = swept(itself, engine, PatchRun(persistence=persistence, max_new_tokens=8))
    assert (scores["status"] == "agree").all()
    assert (scores["token_id"] == scores["clean_token_id"]).all()
    # Every logit enters the KL: none has moved by more than rounding.
    for kl in ("kl_patched", "kl_clean"):
        assert scores[kl].abs().max() <= ROUNDING[engine]
    assert (scores["rank_corrupted"] == 1).all()
    # The control: another model's activations do move them.
    other = swept(pair, engine, PatchRun(persistence=persistence, max_new_tokens=8))
    assert (other["kl_patched"] > 1e-3).any()
    assert (other["kl_patched"] > ROUNDING[engine]).all()


@torch.inference_mode()
@pytest.mark.parametrize("component", ["resid_post", "resid_mid", "attn_out", "mlp_out", "head"])
def test_self_patched_logits_are_bit_identical(pair, component):
    tokens = torch.tensor([pair.encode(QUESTION)])
    own = last_logits(pair.clean, tokens)
    for layer in range(pair.n_layers):
        patch = Patch((Site(layer, component, 1 if component == "head" else None),))
        last = [tokens.shape[1] - 1]
        assert torch.equal(patched_logits(pair.clean, pair.clean, tokens, patch, last, RUN), own)
        assert not torch.equal(patched_logits(pair.clean, pair.corrupted, tokens, patch, last, RUN), own)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("block", [1, 3])
def test_below_the_block_that_differs_nothing_transfers(pair, engine, block):
    child = copy.deepcopy(pair.clean)
    find_blocks(child)[block].load_state_dict(find_blocks(pair.corrupted)[block].state_dict())
    scores = swept(ModelPair(pair.clean, child, pair.prompts), engine)
    below, above = (scores.filter(side) for side in (pl.col("layer") < block, pl.col("layer") >= block))
    assert (below["delta_patched"] - below["delta_clean"]).abs().max() <= ROUNDING[engine]
    assert (below["kl_patched"] - below["kl_clean"]).abs().max() <= ROUNDING[engine]
    # Rounding is small beside a difference of 0.1 logits, by which CTS divides.
    wide = (pl.col("delta_corrupted") - pl.col("delta_clean")).abs() > 0.1
    scored = below.filter(pl.col("status") == "ok", wide)
    assert scored.height > 0
    assert scored["cts"].abs().max() <= 10 * ROUNDING[engine]
    # The control: from the block on it does. All of it only if no later block reads a past that differs.
    scored = above.filter(pl.col("status") == "ok", wide)
    assert scored.height > 0
    assert (scored["cts"].abs() > 10 * ROUNDING[engine]).all()
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
    site = patch_grid([1], pair.n_layers)
    ids = pair.encode("5x + 3 = 18")

    def second_step(persistence):
        first = ENGINES[engine](pair, ids, site, PatchRun("corrupt", persistence, 2))[0]
        longer = ENGINES[engine](pair, [*ids, first.tokens[0]], site, PatchRun("corrupt", persistence, 1))[0]
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


@pytest.mark.parametrize("where", ["source", "target", "head"])
def test_nothing_is_left_on_the_models_after_an_exception(qwen3_pair, monkeypatch, where):
    models = (qwen3_pair.clean, qwen3_pair.corrupted)
    swept(qwen3_pair, "cached")
    before = hooks_and_forwards(*models), [text_config(model)._attn_implementation for model in models]

    def broken(*_, **__):
        raise ZeroDivisionError

    handles = []
    if where == "target":
        monkeypatch.setattr(rounds._Round, "_edits", lambda *_: {Site(1): broken})
    else:
        part = find_blocks(qwen3_pair.corrupted)[2].mlp if where == "source" else qwen3_pair.clean.lm_head
        handles.append(part.register_forward_hook(broken))
    with pytest.raises(ZeroDivisionError):
        swept(qwen3_pair, "cached")
    for handle in handles:
        handle.remove()
    assert (hooks_and_forwards(*models), [text_config(model)._attn_implementation for model in models]) == before
