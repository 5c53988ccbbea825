"""Blocks, their components, sites and the final norm, over all architectures; what a model lacks is refused."""

import copy
import gc
import weakref

import pytest
import torch
import transformers
from torch import nn

from architectures import ARCHITECTURES, N_LAYERS, PARALLEL, UNUSUAL, tiny_architecture, tiny_family
from crosspatch.config import COMPONENTS
from crosspatch.errors import UsageError
from crosspatch.models.blocks import find_blocks, hidden_of
from crosspatch.models.components import check_sites, final_norm, find_components, trace
from crosspatch.models.hooks import editing, reading
from crosspatch.models.site import Site
from crosspatch.models.unembedding import unembed
from engines import hooks_and_forwards

# attn_out, mlp_out, heads: as one reads them in each modeling_*.py of transformers 5.23.
PLAIN = ("self_attn", "mlp", "self_attn.o_proj")
PARTS = {
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm", "self_attn.o_proj"),
    "gemma3": ("post_attention_layernorm", "post_feedforward_layernorm", "self_attn.o_proj"),
    "glm4": ("post_self_attn_layernorm", "post_mlp_layernorm", "self_attn.o_proj"),
    "gpt2": ("attn", "mlp", "attn.c_proj"),
    "gpt_neox": ("post_attention_dropout", "post_mlp_dropout", "attention.dense"),
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm", "self_attn.o_proj"),
    # One dropout serves both halves, so it is neither of them.
    "phi": ("self_attn", "mlp", "self_attn.dense"),
    "phi3": ("resid_attn_dropout", "resid_mlp_dropout", "self_attn.o_proj"),
    "stablelm": ("self_attn", "dropout", "self_attn.o_proj"),
}
# The module that reads resid_mid.
MID = {"gemma2": "pre_feedforward_layernorm", "gemma3": "pre_feedforward_layernorm", "gpt2": "ln_2", "olmo2": "mlp"}
TOKENS = torch.tensor([[5, 17, 301, 44, 9, 120]])
HEADS = [Site(2, "head", head) for head in range(4)]


def lists_of_four(*names: str) -> nn.Module:
    model = nn.Module()
    model.config = ARCHITECTURES["qwen3"]()
    for name in names:
        setattr(model, name, nn.ModuleList(nn.Linear(1, 1) for _ in range(4)))
    return model


def test_blocks_are_the_one_list_of_the_right_length():
    with pytest.raises(UsageError, match="0 lists of 4 blocks"):
        find_blocks(lists_of_four())
    with pytest.raises(UsageError, match="2 lists"):
        find_blocks(lists_of_four("a", "b"))
    model = lists_of_four("layers")
    # A list inside a block is no list of blocks.
    model.layers[0].experts = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))
    child = copy.deepcopy(model)
    assert find_blocks(model) is model.layers
    assert find_blocks(child) is child.layers is not model.layers
    # Also when they are replaced.
    model.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))
    assert find_blocks(model) is model.layers


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_components_are_those_that_one_reads_in_the_source(name, dtype):
    """And `reading` gives what hooks written by hand give, bit for bit."""
    model = tiny_architecture(name).to(dtype)
    found = find_components(model)
    assert len(found.blocks) == len(find_blocks(model)) == N_LAYERS
    assert found.n_heads == 4
    assert found.scale == (0.5 if name == "granite" else 1)
    for block, names in zip(find_blocks(model), found.blocks, strict=True):
        assert names.kind == type(block).__name__
        assert (names.attn_out, names.mlp_out, names.heads) == PARTS.get(name, PLAIN)
        assert names.sequential == (name not in PARALLEL)
        assert names.head_width == 12
    assert hooks_and_forwards(model) == 0

    by_hand, block = {}, find_blocks(model)[2]
    attn_out, mlp_out, heads = PARTS.get(name, PLAIN)
    mid = "" if name in PARALLEL else MID.get(name, "post_attention_layernorm")
    for part in {"", attn_out, mlp_out, heads, mid}:

        def keep(_, args, output, part=part):
            by_hand[part] = (*args, hidden_of(output))

        block.get_submodule(part).register_forward_hook(keep)
    expected = {Site(2): "", Site(2, "attn_out"): attn_out, Site(2, "mlp_out"): mlp_out}
    with reading(model, [*expected, *HEADS, *([Site(2, "resid_mid")] if mid else [])]) as read:
        model(TOKENS, use_cache=False)
    assert all(torch.equal(read[site], by_hand[part][-1]) for site, part in expected.items())
    assert torch.equal(torch.cat([read[head] for head in HEADS], dim=-1), by_hand[heads][0])
    assert not mid or torch.equal(read[Site(2, "resid_mid")], by_hand[mid][0])


@pytest.mark.parametrize("name", ["gpt_neox", "stablelm"])
def test_parallel_or_not_is_found_and_not_known_by_name(name):
    config = ARCHITECTURES[name](use_parallel_residual=name == "stablelm")
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert all(block.sequential == (name == "gpt_neox") for block in find_components(model).blocks)


@pytest.mark.parametrize("name", [*sorted(PARALLEL), "silent gpt_neox"])
def test_a_parallel_block_has_no_site_between_its_halves(name):
    """Nor where attention adds nothing, so that resid_pre and resid_pre + attn_out are equal."""
    model = tiny_architecture(name.removeprefix("silent "))
    if name == "silent gpt_neox":
        for weight in find_blocks(model)[1].attention.dense.parameters():
            weight.detach().zero_()
    check_sites(model, [Site(1, "attn_out"), Site(1, "mlp_out"), Site(1, "head", 0), Site(1)])
    with pytest.raises(UsageError, match=r"no L1\.resid_mid: in block 1 .* run in parallel, .* use resid_post"):
        check_sites(model, [Site(1, "resid_mid")])


def test_layers_and_heads_out_of_range():
    model = tiny_architecture("gpt2")
    there = [Site(layer, c, 3 if c == "head" else None) for layer in range(N_LAYERS) for c in COMPONENTS]
    check_sites(model, there)
    no_layer = r"no L4\.resid_post: the layers of GPT2LMHeadModel are 0 to 3"
    with pytest.raises(UsageError, match=no_layer), reading(model, [*there, Site(4)]):
        pass
    no_head = r"no L0\.head\.4: in block 0 \(GPT2Block\) the heads are 0 to 3"
    with pytest.raises(UsageError, match=no_head), editing(model, {Site(0): torch.neg, Site(0, "head", 4): torch.neg}):
        pass
    assert hooks_and_forwards(model) == 0


def lacking(config) -> tuple[nn.Module, list[set[str]]]:
    """A model, and for each of its blocks the components that it does not have."""
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    sites = [[Site(layer, c, 0 if c == "head" else None) for c in COMPONENTS] for layer in range(N_LAYERS)]
    return model, [{site.component for site in of_block if not find_components(model).has(site)} for of_block in sites]


@torch.inference_mode()
@pytest.mark.parametrize("name", UNUSUAL)
def test_components_of_unusual_blocks_add_up_and_can_be_edited(name):
    """Also where a part adds the residual itself, returns a list of tokens, or is changed in place later."""
    model = tiny_architecture(name)
    components = find_components(model)
    found = [(block.attn_out, block.mlp_out, block.heads) for block in components.blocks]
    assert set(UNUSUAL[name]) == set(found)
    sites = [Site(layer, c, 1 if c == "head" else None) for layer in range(N_LAYERS) for c in COMPONENTS]
    sites = [site for site in sites if components.has(site)]
    tokens = torch.cat([TOKENS, TOKENS.flip(-1)])

    def run(edits=None):
        with editing(model, edits or {}), reading(model, sites) as read:
            return model(tokens, use_cache=False).logits, read

    logits, read = run()
    assert all(activation.shape[:2] == tokens.shape for activation in read.values())
    assert torch.equal(run(dict.fromkeys(sites, torch.clone))[0], logits)
    for site in sites:
        moved, after = run({site: torch.neg})
        assert (moved - logits).abs().max() > 1e-3
        torch.testing.assert_close(after[site], -read[site])
    for layer in range(1, N_LAYERS):
        parts = {site.component: read[site] for site in sites if site.layer == layer}
        mid = read[Site(layer - 1)] + parts.get("attn_out", torch.nan)
        for total in {"resid_mid": mid, "resid_post": mid + parts.get("mlp_out", torch.nan)}.items():
            if not total[1].isnan().any() and total[0] in parts:
                torch.testing.assert_close(parts[total[0]], total[1])


def test_what_does_not_add_up_is_refused():
    """Two MLPs side by side; a norm after the sum; several hidden states."""
    sizes = {"num_local_experts": 2, "shared_intermediate_size": 32, "residual_multiplier": 0.5}
    assert lacking(tiny_family("GraniteMoeShared", **sizes))[1][0] == {"mlp_out"}
    adds = r"resid_post should be resid_pre \+ attn_out \+ mlp_out"
    with pytest.raises(
        UsageError, match=rf"{adds}, but the block ends with the norm output\.LayerNorm; use resid_post"
    ):
        check_sites(tiny_architecture("bert"), [Site(0, "attn_out")])
    with pytest.raises(UsageError, match=rf"{adds}; use resid_post"):
        check_sites(tiny_architecture("falcon_h1"), [Site(0, "mlp_out")])
    with pytest.raises(UsageError, match=r"no attention was found .* use resid_post"):
        check_sites(tiny_architecture("mamba"), [Site(0, "head", 0)])
    with pytest.raises(UsageError, match=r"the block has no MLP, so nothing reads"):
        check_sites(tiny_architecture("nemotron_h"), [Site(2, "resid_mid")])
    with pytest.raises(UsageError, match="the blocks of ReformerModelWithLMHead return several tensors"):
        find_components(tiny_architecture("reformer"))


def test_a_model_is_traced_once_and_forgotten_with_it():
    model = tiny_architecture("llama")
    passes = []
    model.model.register_forward_hook(lambda *_: passes.append(1))
    check_sites(model, [Site(0), Site(3)])
    # For block outputs alone it is not traced at all.
    assert not passes
    for _ in range(2):
        check_sites(model, [Site(0, "attn_out"), Site(3, "head", 1)])
        final_norm(model)
    assert len(passes) == 1
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_tracing_leaves_the_model_as_it_was():
    model = tiny_architecture("gpt2").train()
    model.transformer.h[1].eval()
    before = [m.training for m in model.modules()]
    assert set(before) == {True, False}
    state = torch.get_rng_state()
    trace(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == before
    assert all(weight.grad is None for weight in model.parameters())

    model.transformer.ln_f.register_forward_hook(lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        trace(model)
    assert [m.training for m in model.modules()] == before
    assert hooks_and_forwards(model) == 1


def test_names_their_order_and_what_is_no_name():
    names = ["L0.attn_out", "L0.head.2", "L0.head.10", "L0.resid_post", "L1.head.0", "L1.mlp_out", "L1.resid_mid"]
    sites = [Site.parse(name) for name in names]
    assert [site.name for site in sorted(set(sites))] == names
    assert sites[2:4] == [Site(0, "head", 10), Site(0)]
    for name in ("", "L3", "L².resid_post", "L-1.resid_post", "Lx.attn_out", "L3.resid", "L3.head.x", "L3.mlp_out "):
        with pytest.raises(UsageError, match=r"such as L18\.resid_post or L18\.head\.3"):
            Site.parse(name)
    with pytest.raises(UsageError, match=r"needs its number, such as L3\.head\.0"):
        Site.parse("L3.head")
    with pytest.raises(UsageError, match="head 1 with attn_out"):
        Site.parse("L3.attn_out.1")
    for numbers in ((-1,), (0, "head", -1)):
        with pytest.raises(UsageError, match="count from 0"):
            Site(*numbers)
    with pytest.raises(UsageError, match="got component 'resid_pre', expected one of resid_post, "):
        Site(0, "resid_pre")


@torch.inference_mode()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_norm_and_unembedding_of_the_last_stream_are_the_models_logits(name):
    """Soft caps, scales and biases included."""
    model = tiny_architecture(name)
    with reading(model, [Site(3)]) as read:
        logits = model(TOKENS, use_cache=False).logits[0]
    hidden = final_norm(model)(read[Site(3)])[0]
    for float32 in (False, True):
        torch.testing.assert_close(unembed(model, hidden, float32=float32), logits, atol=1e-5, rtol=0)
    # A few at a time, in any order.
    torch.testing.assert_close(unembed(model, hidden[[4, 1]]), logits[[4, 1]], atol=1e-5, rtol=0)
    assert (unembed(model, read[Site(3)][0]) - logits).abs().max() > 0.01
    assert hooks_and_forwards(model) == 0


@torch.inference_mode()
def test_in_float32_the_sums_are_not_rounded_and_a_model_without_a_final_norm_is_refused():
    model = tiny_architecture("llama").bfloat16()
    hidden = model.base_model(TOKENS, use_cache=False)[0][0]
    rough, fine = unembed(model, hidden), unembed(model, hidden, float32=True)
    exact = hidden.double() @ model.lm_head.weight.double().T
    assert (fine - exact).abs().max() < 1e-4
    assert (rough - exact).abs().max() > 1e-3
    assert rough.dtype == fine.dtype == torch.float32
    assert rough.equal(rough.bfloat16().float())
    assert hooks_and_forwards(model) == 0
    # Something more is done after the norm, so that no module puts out what the unembedding reads.
    model.model.register_forward_hook(lambda _, __, output: (2 * output[0],))
    with pytest.raises(UsageError, match="LlamaForCausalLM has 0 modules between its last block and its unembedding"):
        final_norm(model)
