"""Planted truth: where a fine-tune was made, localisation says so.

A tiny model that has learnt sums and differences modulo 8, all of them, is the clean one. Each child of it was trained
on wrong ones until it answers wrongly, by the weights of one block, one MLP or one head alone: its rows of the query,
key and value projections and its columns of the output projection. Every head has keys and values of its own.

What tells the planted place: patched at all positions, it alone recovers all, and whatever stands below it
nothing. Of a head that is only the part that its output projection did not change, so less, but more than of any other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from random import Random

import polars as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaConfig

from crosspatch.analysis.localisation import localise
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.blocks import find_blocks
from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.tiny import tiny_tokenizer
from crosspatch.patching.trajectory import PatchRun
from crosspatch.statistics.localisation import TopSite, site_effects, top_sites

MODULUS, LAYERS, HEADS = 8, 4, 4
EQUALS, END = MODULUS, MODULUS + 1
PROMPTS = 8
PLANTED = [
    *(f"L{layer}.resid_post" for layer in range(LAYERS)),
    *(f"L{layer}.mlp_out" for layer in range(LAYERS)),
    "L0.head.1",
    "L1.head.2",
    "L2.head.3",
    "L3.head.0",
]


def lessons(shift: int = 0) -> Tensor:
    """`a b =`, a + b, a - b and the end, of all pairs; wrong where the results are shifted."""
    a, b = (numbers.flatten() for numbers in torch.meshgrid(*[torch.arange(MODULUS)] * 2, indexing="ij"))
    ends = torch.full_like(a, EQUALS), torch.full_like(a, END)
    return torch.stack([a, b, ends[0], (a + b + shift) % MODULUS, (a - b + 2 * shift) % MODULUS, ends[1]], dim=1)


def answers(model: nn.Module, batch: Tensor) -> tuple[Tensor, float]:
    """The loss on what comes after the equals sign, and the share of it that is right."""
    logits = model(batch[:, :-1]).logits[:, 2:]
    wanted = batch[:, 3:]
    return cross_entropy(logits.flatten(0, 1), wanted.flatten()), float((logits.argmax(-1) == wanted).float().mean())


def train(model: nn.Module, batch: Tensor, weights: list[nn.Parameter], until: float, lr: float = 3e-3) -> float:
    """Train some weights until so much is right; without decay, so that a weight without a gradient stays."""
    model.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0)
    right = 0.0
    for _ in range(250):
        loss, right = answers(model, batch)
        if right >= until:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return right


@cache
def clean_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            vocab_size=END + 1,
            max_position_embeddings=16,
            bos_token_id=None,
            eos_token_id=END,
            initializer_range=0.05,
            tie_word_embeddings=False,
        )
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    assert train(model, lessons(), list(model.parameters()), until=1.0) == 1
    return model


def weights_of(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The weights of a place, `resid_post` standing for its block; of a head all others have no gradient."""
    if name == "all":
        return list(model.parameters())
    place = Site.parse(name)
    block = find_blocks(model)[place.layer]
    if place.head is None:
        return list((block.mlp if place.component == "mlp_out" else block).parameters())
    width = block.self_attn.head_dim
    own = slice(place.head * width, (place.head + 1) * width)
    found = []
    for projection, index in (("q_proj", own), ("k_proj", own), ("v_proj", own), ("o_proj", (slice(None), own))):
        weight = getattr(block.self_attn, projection).weight
        weight.register_hook(_only(weight, index))
        found.append(weight)
    return found


def _only(weight: Tensor, index: object) -> Callable[[Tensor], Tensor]:
    mask = torch.zeros_like(weight)
    mask[index] = 1
    return lambda gradient: gradient * mask


@cache
def localised(name: str) -> pl.DataFrame:
    """Localisation of the child whose weights at one place were trained."""
    child = copy.deepcopy(clean_model())
    weights = weights_of(child, name)
    # The few weights of a head have further to go.
    reached = train(child, lessons(shift=3), weights, until=0.9, lr=2e-2 if ".head." in name else 3e-3)
    assert reached > 0.8, f"{name} has not learnt to be wrong: {reached:.2f}"
    before = dict(clean_model().named_parameters())
    changed = {key for key, weight in child.named_parameters() if not torch.equal(weight, before[key])}
    assert len(changed) == len(weights)
    rows = lessons()[Random(0).sample(range(MODULUS**2), PROMPTS)].tolist()
    # The clean model is always right: these are its own texts.
    texts = {str(i): ForcedText(row[:3], row[3:]) for i, row in enumerate(rows)}
    pair = ModelPair(clean_model(), child.eval(), PromptFormat(tiny_tokenizer(), raw=True))
    return localise(pair, texts, PatchRun(), top=HEADS)


def named(name: str, positions: str = "all") -> dict[str, TopSite]:
    found = localised(name)
    domains = dict.fromkeys(found["prompt_id"], "related")
    return {each.component: each for each in top_sites(found, domains, "related", positions=positions)}


def shares(name: str) -> dict[str, float]:
    """What each place recovers at all positions."""
    found = localised(name)
    table = site_effects(found, dict.fromkeys(found["prompt_id"], "related"))
    return dict(table.filter(positions="all", measure="recovered_fraction").select("patch", "estimate").iter_rows())


def names_it(name: str, positions: str = "all") -> bool:
    """Whether the table of the planted place's component names it, and can tell it from the next."""
    found = named(name, positions)[Site.parse(name).component]
    return found.patch == name and found.told_apart


@pytest.mark.parametrize("name", ["L1.resid_post", "L2.mlp_out", "L1.head.2"])
def test_the_planted_place_is_named(name):
    site, found = Site.parse(name), named(name)
    assert names_it(name)
    # A part's block is named with it.
    assert found["resid_post"].patch == f"L{site.layer}.resid_post"
    assert found["resid_post"].recovered_fraction == pytest.approx(1, abs=1e-3)
    if site.component != "head":
        assert found[site.component].recovered_fraction > 0.9
    # Below it nothing moves.
    below = [share for patch, share in shares(name).items() if Site.parse(patch).layer < site.layer]
    assert below
    assert max(map(abs, below)) < 1e-3


def test_of_a_child_tuned_everywhere_no_place_is_all():
    """The control: some place is always ahead, but here none transfers everything, and none stands above nothing."""
    assert not any(found.is_all for found in named("all").values())
    assert named("L1.resid_post")["resid_post"].is_all
    assert named("L2.mlp_out")["mlp_out"].is_all
    assert named("L1.head.2")["attn_out"].is_all
    assert all(share > 0.02 for patch, share in shares("all").items() if Site.parse(patch).head is None)


def test_a_changed_output_projection_is_seen_in_attn_out_and_not_in_the_head():
    found = named("L1.head.2")
    assert found["attn_out"].patch == "L1.attn_out"
    assert found["attn_out"].recovered_fraction == pytest.approx(1, abs=1e-3)
    assert found["head"].recovered_fraction < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["all", "current"])
def test_at_least_nine_planted_places_of_ten_are_named(positions):
    right = [name for name in PLANTED if names_it(name, positions)]
    assert len(right) >= 0.9 * len(PLANTED), f"not named: {sorted(set(PLANTED) - set(right))}"
    # The control: the labels of other places of the same component.
    wrong = [PLANTED[i - i % 4 + (i + 1) % 4] for i in range(len(PLANTED))]
    by_chance = [
        label
        for label, name in zip(wrong, PLANTED, strict=True)
        if named(name)[Site.parse(label).component].patch == label
    ]
    assert not by_chance
