"""Reading and editing at sites, over all architectures: laws, each with its negative control."""

import copy

import pytest
import torch

from architectures import ARCHITECTURES, N_LAYERS, tiny_architecture
from crosspatch.config import COMPONENTS
from crosspatch.models.blocks import find_blocks
from crosspatch.models.components import find_components
from crosspatch.models.hooks import editing, reading, replacing
from crosspatch.models.site import Site
from engines import hooks_and_forwards
from pairs import child_of

# Longer than the sliding windows, and two rows of it.
TOKENS = torch.randint(3, 512, (2, 12), generator=torch.Generator().manual_seed(0))
HEADS = range(4)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request):
    return tiny_architecture(request.param)


@pytest.fixture(scope="module")
def child(model):
    return child_of(model, scale=0.5)


def sites_of(model, layer: int) -> list[Site]:
    sites = [*(Site(layer, c) for c in COMPONENTS if c != "head"), *(Site(layer, "head", head) for head in HEADS)]
    return [site for site in sites if find_components(model).has(site)]


def logits(model):
    return model(TOKENS, use_cache=False).logits


def activations(model, sites):
    with reading(model, sites) as read:
        logits(model)
    return read


def within_rounding(size: float = 1.0) -> dict[str, float]:
    return {"atol": 1e-5 * size, "rtol": 1e-5}


@torch.inference_mode()
def test_what_attention_and_mlp_add_is_what_the_block_adds(model):
    read = activations(model, [site for layer in range(N_LAYERS) for site in sites_of(model, layer)])
    states = model(TOKENS, use_cache=False, output_hidden_states=True).hidden_states
    scale = find_components(model).scale
    for layer in range(N_LAYERS):
        before, after = states[layer], read[Site(layer)]
        if layer + 1 < N_LAYERS:  # The last of the hidden states comes after the final norm.
            assert torch.equal(after, states[layer + 1])
        attn_out, mlp_out = read[Site(layer, "attn_out")], read[Site(layer, "mlp_out")]
        torch.testing.assert_close(before + scale * (attn_out + mlp_out), after, **within_rounding())
        # The control: neither is nothing.
        assert not torch.allclose(before + scale * attn_out, after, atol=1e-3)
        assert not torch.allclose(before + scale * mlp_out, after, atol=1e-3)
        if find_components(model).blocks[layer].sequential:
            torch.testing.assert_close(before + scale * attn_out, read[Site(layer, "resid_mid")], **within_rounding())


@torch.inference_mode()
def test_editing_with_the_identity_changes_no_bit_and_another_activation_does(model, child):
    # Transformers leaves hooks of its own.
    plain, before = logits(model), hooks_and_forwards(model)
    sites = sites_of(model, 1)
    foreign = activations(child, sites)
    for site in sites:
        for identity in (lambda activation: activation, torch.clone):
            with editing(model, {site: identity}):
                assert torch.equal(logits(model), plain)
        with editing(model, {site: lambda _, site=site: foreign[site]}), reading(model, [site]) as read:
            assert (logits(model) - plain).abs().max() > 1e-3
        torch.testing.assert_close(read[site], foreign[site], **within_rounding())
    assert torch.equal(logits(model), plain)
    assert hooks_and_forwards(model) == before


@torch.inference_mode()
def test_a_block_that_adds_nothing_passes_its_input_on(model):
    silent = {Site(layer, part): torch.zeros_like for layer in (1, 2) for part in ("attn_out", "mlp_out")}
    # The control: one half of the second block adds something.
    speaks = {site: edit for site, edit in silent.items() if site != Site(2, "mlp_out")}
    for edits in (silent, speaks):
        with editing(model, edits), reading(model, [Site(0), Site(2)]) as read:
            logits(model)
        assert torch.equal(read[Site(0)], read[Site(2)]) == (edits is silent)


@torch.inference_mode()
def test_all_heads_at_once_are_attn_out_where_the_projection_is_shared(model, child):
    layer = 2
    parts = find_components(model).blocks[layer]
    child = copy.deepcopy(child)
    own, foreign = find_blocks(model)[layer], find_blocks(child)[layer]
    for part in {parts.heads, parts.attn_out} - {parts.heads.partition(".")[0]}:
        foreign.get_submodule(part).load_state_dict(own.get_submodule(part).state_dict())
    heads, attn_out = [Site(layer, "head", head) for head in HEADS], Site(layer, "attn_out")
    moved = activations(child, [*heads, attn_out])

    def moving(sites):
        return editing(model, {site: lambda _, site=site: moved[site] for site in sites})

    with moving([attn_out]):
        as_one = logits(model)
    with moving(heads):
        torch.testing.assert_close(logits(model), as_one, **within_rounding(10))
    with moving(heads[:3]):
        assert not torch.allclose(logits(model), as_one, atol=1e-3)


@torch.inference_mode()
def test_editing_a_head_leaves_the_others_and_what_was_read_as_they_were(model):
    heads = [Site(1, "head", head) for head in HEADS]
    plain = activations(model, heads)
    edits = {heads[1]: torch.neg, heads[3]: torch.zeros_like}
    with reading(model, heads) as before, editing(model, edits), reading(model, heads) as after:
        logits(model)
    assert all(torch.equal(before[head], plain[head]) for head in heads)
    expected = [plain[heads[0]], -plain[heads[1]], plain[heads[2]], torch.zeros_like(plain[heads[3]])]
    assert all(torch.equal(after[head], values) for head, values in zip(heads, expected, strict=True))


@torch.inference_mode()
def test_edits_of_one_layer_come_in_the_order_of_computation():
    llama, layer, seen = tiny_architecture("llama"), 1, {}

    def linear(component, factor, amount):
        return lambda activation: seen.setdefault(component, activation) * factor + amount

    before = activations(llama, [Site(0)])[Site(0)]
    edits = {
        Site(layer): linear("resid_post", 1, 1),
        Site(layer, "mlp_out"): linear("mlp_out", 0, 0),
        Site(layer, "resid_mid"): linear("resid_mid", 1, 2),
        Site(layer, "attn_out"): linear("attn_out", 0, 3),
        Site(layer, "head", 0): linear("head", 1, 4),
    }
    with editing(llama, edits), reading(llama, [Site(layer)]) as read:
        logits(llama)
    assert list(seen) == ["head", "attn_out", "resid_mid", "mlp_out", "resid_post"]
    torch.testing.assert_close(seen["resid_mid"], before + 3, **within_rounding())
    torch.testing.assert_close(seen["resid_post"], before + 5, **within_rounding())
    torch.testing.assert_close(read[Site(layer)], before + 6, **within_rounding())


def test_gradients_flow_through_edits(model):
    """What is added to resid_mid counts as attn_out added s times, in its gradient too."""
    parts = find_components(model)
    sites = [site for site in sites_of(model, 1) if site.head in (None, 2)]
    added = {site: torch.zeros(2, 12, 12 if site.head else 48, requires_grad=True) for site in sites}
    with editing(model, {site: lambda activation, site=site: activation + added[site] for site in sites}):
        # Not their sum, which hardly changes where a norm without bias comes last.
        loss = logits(model)[..., 7].sum()
    gradients = dict(zip(sites, torch.autograd.grad(loss, list(added.values())), strict=True))
    assert all(gradient.abs().max() > 1e-4 for gradient in gradients.values())
    if parts.blocks[1].sequential:
        of_mid, of_attn = gradients[Site(1, "resid_mid")], gradients[Site(1, "attn_out")]
        torch.testing.assert_close(parts.scale * of_mid, of_attn, **within_rounding(10))


def test_hooks_are_gone_after_an_exception_and_foreign_ones_stay(monkeypatch):
    llama = tiny_architecture("llama")
    find_blocks(llama)[0].register_forward_hook(lambda *_: None)
    everything = sites_of(llama, 1)
    for site in everything:
        with pytest.raises(ZeroDivisionError), reading(llama, everything), editing(llama, {site: lambda _: 1 // 0}):
            logits(llama)
        assert hooks_and_forwards(llama) == 1
    # Those that were registered before one that cannot be are gone too.
    monkeypatch.setattr(type(find_blocks(llama)[0]), "register_forward_pre_hook", lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError), reading(llama, [Site(0, "attn_out"), Site(1, "resid_mid")]):
        pass
    assert hooks_and_forwards(llama) == 1


def test_replacing_puts_rows_at_positions_and_leaves_the_others():
    stream, values = torch.zeros(1, 4, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    edited = replacing(torch.tensor([3, 0]), values, torch.tensor([0, 1]))(stream)
    assert edited.tolist() == [[[3, 4], [0, 0], [0, 0], [1, 2]]]
    assert edited.dtype == torch.float32
    # The argument itself is left as it is; no position is no change.
    assert not stream.any()
    none = torch.tensor([], dtype=torch.long)
    assert torch.equal(replacing(none, values, none)(stream), stream)
