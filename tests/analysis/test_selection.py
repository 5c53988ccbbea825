"""Choosing patches: the search finds what was planted and measures exactly; choices are tested on other texts."""

import polars as pl
import pytest

from crosspatch.analysis.attribution import attribution_patching
from crosspatch.analysis.selection import (
    CANDIDATES,
    IG_STEPS,
    SEARCHED,
    best_by_attribution,
    search_sites,
    smallest_set,
)
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.site import Site
from crosspatch.patching.measures import Recovered
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.trajectory import PatchRun, recovered
from crosspatch.tables import ATTRIBUTION, SEARCH
from engines import exact_scores
from pairs import architecture_pair, child_in

TEXTS = [ForcedText(list(range(20, 32)), [*range(40, 60)]), ForcedText([7, 3], [*range(30, 38)])]
FIVE = [ForcedText([*range(20 + i, 32 + i)], [*range(40 + 7 * i, 56 + 7 * i)]) for i in range(5)]
HALVES = FIVE[::2], FIVE[1::2]
RUN = PatchRun()
PARTS = patch_grid("all", 4, ("attn_out", "mlp_out"))


@pytest.fixture(scope="module")
def pair():
    return architecture_pair("qwen3", 0.3)


def recovered_by(pair, run, texts, patch) -> Recovered:
    """What a patch recovers along some texts at the steps of disagreement, by exact scores."""
    return recovered(t for given in texts for t in exact_scores(pair, given, [patch.name], run))


def elsewhere(pair, run, first, second) -> float | None:
    """What the patches that the halves of the texts choose recover, each on the other half."""
    return (recovered_by(pair, run, HALVES[1], first) + recovered_by(pair, run, HALVES[0], second)).fraction


@pytest.mark.parametrize("direction", ["corrupt", "repair"])
def test_sites_by_attribution_are_measured_where_they_were_not_chosen(pair, direction):
    run = PatchRun(direction)
    table = best_by_attribution(pair, FIVE, run, ["head"], 3).table
    assert dict(table.schema) == ATTRIBUTION.dtypes
    chosen = [attribution_patching(pair, h, run, components=["head"], ig_steps=IG_STEPS).top(3) for h in HALVES]
    for held_out, *patches in zip(table["held_out"], *chosen, strict=True):
        assert held_out == pytest.approx(elsewhere(pair, run, *patches), abs=1e-5)
    # On the texts that chose them they look better.
    assert table["held_out"][0] < table["exact"][0]


def test_sets_of_a_search_are_measured_where_they_were_not_chosen(pair):
    selection = smallest_set(pair, FIVE, RUN, None, 0.5, 1)

    def chosen(some):
        candidates = attribution_patching(pair, some, RUN, components=SEARCHED, ig_steps=IG_STEPS).top(CANDIDATES)
        return search_sites(pair, some, candidates, RUN, wanted=0.5).found

    found = elsewhere(pair, RUN, *map(chosen, HALVES))
    assert dict(selection.table.schema) == SEARCH.dtypes
    # Only the row of the chosen set has it.
    held_out = selection.table.filter(patch=selection.patches[0].name)["held_out"].to_list()
    assert held_out == [pytest.approx(found, abs=1e-5)]
    assert selection.table["held_out"].null_count() == selection.table.height - 1
    assert selection.notes[-1] == f"search: sets chosen on one half of the texts recover {found:.2f} on the other half"
    # One text has no other half.
    assert best_by_attribution(pair, FIVE[:1], RUN, ["head"], 2).table["held_out"].to_list() == [None, None]
    selection = smallest_set(pair, FIVE[:1], RUN, None, 0.5, 1)
    assert selection.table["held_out"].null_count() == selection.table.height
    assert "too few texts" in selection.notes[-1]


@pytest.mark.parametrize(("layer", "direction"), [(1, "repair"), (3, "corrupt")])
def test_the_part_that_differs_is_found_alone(pair, layer, direction):
    run, only = PatchRun(direction), child_in(pair, layer, part="mlp")
    candidates = attribution_patching(only, TEXTS, run, components=SEARCHED).top(4)
    found = search_sites(only, TEXTS, candidates, run, wanted=0.3)
    assert found.found == Patch((Site(layer, "mlp_out"),))
    assert found.reached
    assert found.rounds.height == 1
    # The control: in the blocks before it nothing is found.
    below = [patch for patch in PARTS if patch.layer < layer]
    without = search_sites(only, TEXTS, below, run, wanted=0.3)
    assert (without.found, without.reached, without.recovered_fraction, without.rounds.height) == (None, False, 0.0, 0)


def test_both_parts_of_the_last_block_carry_all_that_it_does(pair):
    found = search_sites(child_in(pair, 3), TEXTS, PARTS, RUN, wanted=0.999)
    assert found.found == Patch((Site(3, "attn_out"), Site(3, "mlp_out")))
    assert found.recovered_fraction == pytest.approx(1, abs=1e-4)
    assert found.rounds["sites"].to_list() == [1, 2]
    assert found.rounds["recovered_fraction"][0] < 0.999


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_a_wider_beam_does_no_worse_than_the_greedy_search(family):
    pair = architecture_pair(family, 0.4)
    greedy, beam = (search_sites(pair, TEXTS, PARTS, RUN, wanted=9.0, beam=width, max_sites=4) for width in (1, 4))
    assert greedy.rounds["rank"].max() == 1
    assert 4 <= beam.rounds["rank"].max() <= 5
    assert set(greedy.rounds["patch"]) <= set(beam.rounds["patch"])
    for number in range(1, 5):
        so_far = (search.rounds.filter(pl.col("round") <= number) for search in (greedy, beam))
        narrow, wide = (rounds["recovered_fraction"].max() for rounds in so_far)
        # The same set in a batch with others sums in another order.
        assert wide >= narrow - 1e-5


def test_the_recovered_fraction_is_exact_and_the_order_of_candidates_changes_nothing(pair):
    there, back = (
        search_sites(pair, TEXTS, candidates, RUN, wanted=9.0, beam=2, max_sites=3)
        for candidates in (PARTS, [*PARTS[::-1], PARTS[0]])
    )
    assert there.rounds.equals(back.rounds)
    assert there.found == back.found
    assert not there.reached
    assert there.recovered_fraction == pytest.approx(recovered_by(pair, RUN, TEXTS, there.found).fraction, abs=1e-5)
    assert there.recovered_fraction == there.rounds["recovered_fraction"].max()
    assert there.rounds.filter(patch=there.found.name)["recovered_fraction"].to_list() == [there.recovered_fraction]


def test_sites_that_overwrite_one_another_are_not_patched_together(pair):
    sites = ["L0.mlp_out", "L1.head.0", "L1.attn_out", "L1.resid_mid", "L2.resid_post"]
    found = search_sites(pair, TEXTS, [Patch.parse("+".join(sites))], RUN, wanted=9.0, beam=9, least_gain=-9.0)
    assert set(found.rounds["patch"]) == {*sites, "L0.mlp_out+L1.head.0", "L0.mlp_out+L1.attn_out"}


def test_wrong_use_is_refused(pair):
    wrong = ([], {}, "no candidate"), (PARTS, {"beam": 0}, "beam of 0"), (PARTS, {"max_sites": 0}, "at most 0")
    for candidates, options, words in wrong:
        with pytest.raises(ValueError, match=words):
            search_sites(pair, TEXTS, candidates, RUN, **options)
    with pytest.raises(ValueError, match="same token at all steps"):
        search_sites(child_in(pair), TEXTS, PARTS, RUN)
