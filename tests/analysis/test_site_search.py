"""The search finds what was planted, measures exactly, and a wider beam does no worse than the greedy search."""

from __future__ import annotations

import copy

import polars as pl
import pytest

from architectures import tiny_architecture
from crosspatch.analysis.attribution import attribution_patching
from crosspatch.analysis.site_search import search_sites
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.blocks import find_blocks
from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.tiny import tiny_tokenizer
from crosspatch.patching.patches import Patch, Schedule, patch_grid
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from pairs import child_of

TEXTS = [ForcedText(list(range(20, 32)), [*range(40, 60)]), ForcedText([7, 3], [*range(30, 38)])]
RUN = PatchRun()
PARTS = patch_grid("all", 4, ("attn_out", "mlp_out"))


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    clean = tiny_architecture("qwen3")
    return ModelPair(clean, child_of(clean, scale=0.3), PromptFormat(tiny_tokenizer(), raw=True))


def planted(pair, layer, part="") -> ModelPair:
    """A child that differs in one block, or in one part of it."""
    child = copy.deepcopy(pair.clean)
    here, there = (find_blocks(model)[layer].get_submodule(part) for model in (child, pair.corrupted))
    here.load_state_dict(there.state_dict())
    return ModelPair(pair.clean, child, pair.prompts)


@pytest.mark.parametrize("direction", ["corrupt", "repair"])
@pytest.mark.parametrize("layer", [1, 3])
def test_the_part_that_differs_is_found_alone(pair, layer, direction):
    run = PatchRun(direction)
    only = planted(pair, layer, "mlp")
    candidates = attribution_patching(only, TEXTS, run).top(4, ["attn_out", "mlp_out", "head"])
    found = search_sites(only, TEXTS, candidates, run, wanted=0.3)
    assert found.found == Patch((Site(layer, "mlp_out"),))
    assert found.reached
    assert found.rounds.height == 1
    # The control: without it nothing is found, in the blocks before it.
    below = [patch for patch in PARTS if patch.layer < layer]
    without = search_sites(only, TEXTS, below, run, wanted=0.3)
    assert (without.found, without.reached, without.recovered_fraction, without.rounds.height) == (None, False, 0.0, 0)


def test_both_parts_of_the_last_block_carry_all_that_it_does(pair):
    only = planted(pair, 3)
    found = search_sites(only, TEXTS, PARTS, RUN, wanted=0.999)
    assert found.found == Patch((Site(3, "attn_out"), Site(3, "mlp_out")))
    assert found.recovered_fraction == pytest.approx(1, abs=1e-4)
    assert found.rounds["sites"].to_list() == [1, 2]
    assert found.rounds["recovered_fraction"][0] < 0.999


def test_transfer_is_that_of_the_exact_scores(pair):
    found = search_sites(pair, TEXTS, PARTS, RUN, wanted=2.0, max_sites=2)
    assert found.found is not None
    assert not found.reached
    moved = apart = 0.0
    for given in TEXTS:
        patch = Patch(found.found.sites, Schedule(disagree=True))
        for step in score_tokens(pair, given.prompt, given.text, [patch], RUN)[0].steps:
            if step.y_target != step.y_source:
                moved += step.delta_patched - step.delta_target
                apart += step.delta_source - step.delta_target
    assert found.recovered_fraction == pytest.approx(moved / apart, abs=1e-5)
    assert found.recovered_fraction == found.rounds["recovered_fraction"].max()
    assert found.rounds["patch"].to_list()[-1] == found.found.name


def best_so_far(found, rounds):
    return [found.rounds.filter(pl.col("round") <= r)["recovered_fraction"].max() for r in range(1, rounds + 1)]


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2"])
def test_a_wider_beam_does_no_worse_than_the_greedy_search(family):
    clean = tiny_architecture(family)
    pair = ModelPair(clean, child_of(clean, scale=0.4), PromptFormat(tiny_tokenizer(), raw=True))
    greedy, beam = (search_sites(pair, TEXTS, PARTS, RUN, wanted=9.0, beam=width, max_sites=4) for width in (1, 4))
    assert greedy.rounds["rank"].max() == 1
    assert 4 <= beam.rounds["rank"].max() <= 5
    assert set(greedy.rounds["patch"]) <= set(beam.rounds["patch"])
    pairs = zip(best_so_far(beam, 4), best_so_far(greedy, 4), strict=True)
    # The same set in a batch with others sums in another order.
    assert all(wide >= narrow - 1e-5 for wide, narrow in pairs)


def test_the_order_of_candidates_changes_nothing(pair):
    there, back = (
        search_sites(pair, TEXTS, candidates, RUN, wanted=9.0, beam=2, max_sites=3)
        for candidates in (PARTS, [*PARTS[::-1], PARTS[0]])
    )
    assert there.rounds.equals(back.rounds)
    assert there.found == back.found


def test_sites_that_overwrite_one_another_are_not_moved_together(pair):
    sites = ["L0.mlp_out", "L1.head.0", "L1.attn_out", "L1.resid_mid", "L2.resid_post"]
    found = search_sites(pair, TEXTS, [Patch.parse("+".join(sites))], RUN, wanted=9.0, beam=9, least_gain=-9.0)
    sets = set(found.rounds["patch"])
    assert sets == {*sites, "L0.mlp_out+L1.head.0", "L0.mlp_out+L1.attn_out"}


@pytest.mark.parametrize(
    ("candidates", "options", "words"),
    [
        ([], {}, "no candidate"),
        (PARTS, {"beam": 0}, "beam of 0"),
        (PARTS, {"max_sites": 0}, "at most 0"),
    ],
)
def test_wrong_use_is_refused(pair, candidates, options, words):
    with pytest.raises(ValueError, match=words):
        search_sites(pair, TEXTS, candidates, RUN, **options)


def test_models_that_agree_throughout_leave_nothing_to_find(pair):
    itself = ModelPair(pair.clean, copy.deepcopy(pair.clean), pair.prompts)
    with pytest.raises(ValueError, match="same token at all steps"):
        search_sites(itself, TEXTS, PARTS, RUN)
