"""Localisation names the site at which a fine-tune was planted.

The clean model is a tiny one that has learnt all sums and differences modulo 8. Each child was trained on wrong results
until it answers wrongly, by the weights of one block, one MLP or one head alone: the head's rows of the query, key and
value projections and its columns of the output projection. Every head has its own keys and values.

Patched at all positions, the planted site alone recovers everything, and sites below it nothing. A head's activation
lacks the change of its output projection, so a head recovers less than everything, but more than any other head.
"""

import copy
from functools import cache
from random import Random

import polars as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig

from crosspatch.analysis.localisation import localise
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.blocks import find_blocks
from crosspatch.models.site import Site
from crosspatch.patching.trajectory import PatchRun
from crosspatch.statistics.localisation import TopSite, site_effects, top_sites
from pairs import random_model, raw_pair

MODULUS, LAYERS, HEADS, PROMPTS = 8, 4, 4, 8
EQUALS, END = MODULUS, MODULUS + 1
RELATED = {str(i): "related" for i in range(PROMPTS)}
PLANTED = [
    *(f"L{layer}.{component}" for component in ("resid_post", "mlp_out") for layer in range(LAYERS)),
    *("L0.head.1", "L1.head.2", "L2.head.3", "L3.head.0"),
]


def lessons(shift: int = 0) -> Tensor:
    """`a b =`, a + b, a - b and the end, of all pairs; with a shift the results are wrong."""
    a, b = torch.cartesian_prod(*[torch.arange(MODULUS)] * 2).T
    equals, end = torch.full_like(a, EQUALS), torch.full_like(a, END)
    return torch.stack([a, b, equals, (a + b + shift) % MODULUS, (a - b + 2 * shift) % MODULUS, end], dim=1)


def train(model: nn.Module, batch: Tensor, weights: list[nn.Parameter], until: float, lr: float = 3e-3) -> float:
    """Train some weights until this share is right; without decay, so that a weight without a gradient stays."""
    model.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0)
    for _ in range(400):
        logits = model(batch[:, :-1]).logits[:, 2:]
        right = float((logits.argmax(-1) == batch[:, 3:]).float().mean())
        if right >= until:
            break
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), batch[:, 3:].flatten()).backward()
        optimizer.step()
    return right


@cache
def clean_model() -> nn.Module:
    size = {"hidden_size": 64, "intermediate_size": 256, "vocab_size": END + 1, "max_position_embeddings": 16}
    shape = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "initializer_range": 0.05}
    config = LlamaConfig(**size, **shape, bos_token_id=None, eos_token_id=END)
    model = random_model(config)
    assert train(model, lessons(), list(model.parameters()), until=1.0) == 1
    return model


def weights_of(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The weights of a site, of its block for `resid_post`; of a head's projections only its own part is trained."""
    if name == "all":
        return list(model.parameters())
    site = Site.parse(name)
    block = find_blocks(model)[site.layer]
    if site.head is None:
        return list((block.mlp if site.component == "mlp_out" else block).parameters())
    width, found = block.self_attn.head_dim, []
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
        weight = getattr(block.self_attn, projection).weight
        mask = torch.zeros_like(weight)
        own = mask.T if projection == "o_proj" else mask
        own[site.head * width : (site.head + 1) * width] = 1
        weight.register_hook(lambda gradient, mask=mask: gradient * mask)
        found.append(weight)
    return found


@cache
def localised(name: str) -> pl.DataFrame:
    """Localisation of the child whose weights at one site were trained."""
    child = copy.deepcopy(clean_model())
    weights = weights_of(child, name)
    # The few weights of a head have to change more.
    reached = train(child, lessons(shift=3), weights, until=0.9, lr=1e-2 if ".head." in name else 3e-3)
    assert reached > 0.8, f"{name} has not learnt to be wrong: {reached:.2f}"
    before = dict(clean_model().named_parameters())
    changed = {key for key, weight in child.named_parameters() if not torch.equal(weight, before[key])}
    assert len(changed) == len(weights)
    rows = lessons()[Random(0).sample(range(MODULUS**2), PROMPTS)].tolist()
    # The clean model is always right: these are its own texts.
    texts = {prompt_id: ForcedText(row[:3], row[3:]) for prompt_id, row in zip(RELATED, rows, strict=True)}
    return localise(raw_pair(clean_model(), child.eval()), texts, PatchRun(), top=HEADS)


def top_of(name: str, positions: str = "all") -> dict[str, TopSite]:
    """The top site of each component."""
    return {each.component: each for each in top_sites(localised(name), RELATED, "related", positions=positions)}


def fractions(name: str) -> dict[Site, float]:
    """What each site recovers at all positions."""
    table = site_effects(localised(name), RELATED).filter(positions="all", measure="recovered_fraction")
    return {Site.parse(patch): estimate for patch, estimate in table.select("patch", "estimate").iter_rows()}


def names_it(name: str, positions: str = "all") -> bool:
    """Whether the top site of the planted site's component is the planted one, told apart from the next."""
    found = top_of(name, positions)[Site.parse(name).component]
    return found.patch == name and found.told_apart


@pytest.mark.slow
def test_at_least_nine_planted_sites_of_ten_are_named():
    for positions in ("all", "current"):
        right = [name for name in PLANTED if names_it(name, positions)]
        assert len(right) >= 0.9 * len(PLANTED), f"not named: {sorted(set(PLANTED) - set(right))}"
    # The control: the labels of other sites of the same component.
    for i, name in enumerate(PLANTED):
        label = PLANTED[i - i % 4 + (i + 1) % 4]
        assert top_of(name)[Site.parse(label).component].patch != label


@pytest.mark.parametrize("name", ["L1.resid_post", "L2.mlp_out", "L1.head.2"])
def test_the_planted_site_is_named(name):
    site, found = Site.parse(name), top_of(name)
    assert names_it(name)
    # The block of a part is named too.
    assert found["resid_post"].patch == f"L{site.layer}.resid_post"
    assert found["resid_post"].recovered_fraction == pytest.approx(1, abs=1e-3)
    if site.component == "head":
        # A changed output projection is seen in attn_out and not in the head.
        assert found["head"].recovered_fraction < 0.8
        assert found["attn_out"].patch == "L1.attn_out"
        assert found["attn_out"].recovered_fraction == pytest.approx(1, abs=1e-3)
    whole = found["attn_out" if site.component == "head" else site.component]
    assert whole.recovered_fraction > 0.9
    assert whole.is_all
    # Sites below it recover nothing.
    below = [abs(fraction) for other, fraction in fractions(name).items() if other.layer < site.layer]
    assert below
    assert max(below) < 1e-3


def test_of_a_child_tuned_everywhere_no_site_is_all():
    """The control: some site always ranks first, but here none recovers everything, and every whole part something."""
    assert not any(found.is_all for found in top_of("all").values())
    assert all(fraction > 0.02 for site, fraction in fractions("all").items() if site.head is None)
