"""What blocks are made of, over all architectures; and what is refused where it is not there."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import transformers

from architectures import ARCHITECTURES, N_LAYERS, PARALLEL, tiny_architecture
from crosspatch.config import COMPONENTS
from crosspatch.errors import UsageError
from crosspatch.models import anatomy as module
from crosspatch.models.anatomy import anatomy, check_sites
from crosspatch.models.blocks import find_blocks
from crosspatch.models.site import Site
from crosspatch.models.watching import watch

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


def hooks_on(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def tiny(family: str, **settings):
    """A tiny model of a family that lacks something."""
    config = getattr(transformers, f"{family}Config")(vocab_size=512, hidden_size=48, num_hidden_layers=4, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_parts_are_those_that_one_reads_in_the_source(name, dtype):
    model = tiny_architecture(name).to(dtype)
    found = anatomy(model)
    assert len(found.blocks) == N_LAYERS
    assert found.n_heads == 4
    assert found.scale == (0.5 if name == "granite" else 1)
    for block, parts in zip(find_blocks(model), found.blocks, strict=True):
        assert parts.kind == type(block).__name__
        assert (parts.attn_out, parts.mlp_out, parts.heads) == PARTS.get(name, PLAIN)
        assert parts.sequential == (name not in PARALLEL)
        assert parts.head_width == 12
    assert hooks_on(model) == 0


@pytest.mark.parametrize("name", ["gpt_neox", "stablelm"])
def test_parallel_or_not_is_seen_and_not_known_by_name(name):
    config = ARCHITECTURES[name]()
    config.use_parallel_residual = not config.use_parallel_residual
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert all(block.sequential == (name == "gpt_neox") for block in anatomy(model).blocks)


@pytest.mark.parametrize("name", sorted(PARALLEL))
def test_a_parallel_block_has_no_place_between_its_halves(name):
    model = tiny_architecture(name)
    check_sites(model, [Site(1, "attn_out"), Site(1, "mlp_out"), Site(1, "head", 0), Site(1)])
    with pytest.raises(UsageError, match=r"no L1\.resid_mid: in block 1 .* run in parallel; use resid_post"):
        check_sites(model, [Site(1, "resid_mid")])


def test_an_attention_that_adds_nothing_makes_no_parallel_block_sequential():
    model = tiny_architecture("gpt_neox")
    with torch.no_grad():
        for weight in find_blocks(model)[2].attention.dense.parameters():
            weight.zero_()
    check_sites(model, [Site(2, "attn_out"), Site(2, "mlp_out")])
    with pytest.raises(UsageError, match="run in parallel"):
        check_sites(model, [Site(2, "resid_mid")])


def test_layers_and_heads_out_of_range():
    model = tiny_architecture("gpt2")
    everything = [Site(layer, c, 3 if c == "head" else None) for layer in range(N_LAYERS) for c in COMPONENTS]
    check_sites(model, everything)
    with pytest.raises(UsageError, match=r"no L4\.resid_post: the layers of GPT2LMHeadModel are 0 to 3"):
        check_sites(model, [*everything, Site(4)])
    with pytest.raises(UsageError, match=r"no L0\.head\.4: in block 0 \(GPT2Block\) the heads are 0 to 3"):
        check_sites(model, [*everything, Site(0, "head", 4)])


def lacks(model, layer: int) -> set[str]:
    """The components that are refused."""
    refused = set()
    for component in COMPONENTS:
        try:
            check_sites(model, [Site(layer, component, 0 if component == "head" else None)])
        except UsageError:
            refused.add(component)
    return refused


def test_what_does_not_add_up_is_refused():
    """An attention that adds the residual itself; two MLPs side by side; an output that is changed in place."""
    adds_itself = tiny("Bloom", n_head=4)
    assert lacks(adds_itself, 0) == {"resid_mid", "attn_out", "mlp_out", "head"}
    with pytest.raises(UsageError, match=r"resid_post should be resid_pre \+ attn_out \+ mlp_out; use resid_post"):
        check_sites(adds_itself, [Site(0, "attn_out")])
    with pytest.raises(UsageError, match=r"no attention was found .* use resid_post"):
        check_sites(adds_itself, [Site(0, "head", 0)])
    two_mlps = tiny(
        "GraniteMoeShared",
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        num_local_experts=2,
        shared_intermediate_size=32,
        residual_multiplier=0.5,
    )
    assert lacks(two_mlps, 0) == {"mlp_out"}
    assert lacks(tiny("Falcon", num_attention_heads=4), 0) == {"resid_mid", "attn_out", "mlp_out"}
    # The control: the same family where nothing is changed in place.
    assert not lacks(tiny("Falcon", num_attention_heads=4, parallel_attn=False), 0)


def test_blocks_of_one_model_may_differ():
    config = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96}
    model = tiny("Lfm2", layer_types=["conv", "full_attention"] * 2, **config)
    for layer in (0, 2):
        assert lacks(model, layer) == {"resid_mid", "attn_out", "mlp_out", "head"}
    for layer in (1, 3):
        assert not lacks(model, layer)


def test_a_model_is_watched_once_and_not_at_all_for_block_outputs():
    model = tiny_architecture("llama")
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    check_sites(model, [Site(0), Site(3)])
    assert not passes
    for _ in range(2):
        check_sites(model, [Site(0, "attn_out"), Site(3, "head", 1)])
    assert len(passes) == 1


def test_watching_leaves_the_model_as_it_was():
    model = tiny_architecture("gpt2").train()
    model.transformer.h[1].eval()
    before = [m.training for m in model.modules()]
    assert set(before) == {True, False}
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        watch(model)
        assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == before
    assert all(weight.grad is None for weight in model.parameters())

    model.lm_head.register_forward_hook(lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        watch(model)
    assert [m.training for m in model.modules()] == before
    assert hooks_on(model) == 1


def test_what_is_known_of_a_model_does_not_keep_it():
    model = tiny_architecture("llama")
    anatomy(model)
    assert model in module._known
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
