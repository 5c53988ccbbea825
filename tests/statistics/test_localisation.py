"""Site effects, top sites, and residual state against later layers: numbers worked out by hand."""

from dataclasses import asdict
from typing import Any

import polars as pl
import pytest

from crosspatch.analysis.first_divergence import TwoByTwo
from crosspatch.statistics.interval import FEWEST_UNITS
from crosspatch.statistics.localisation import TopSite, divergence_effects, site_effects, top_sites
from crosspatch.tables import DIVERGENCE_EFFECTS, DIVERGENCES, LOCALISATION, SITE_EFFECTS

DOZEN = [f"p{i:02d}" for i in range(12)]
DOMAINS = dict.fromkeys(("p", "q", *DOZEN), "related") | {"g": "general"}


def row(prompt: str, patch: str, moved: float | None, gap: float = 4.0, **more: Any) -> dict[str, Any]:
    layer, component, *head = patch.split(".")
    place = {"prompt_id": prompt, "patch": patch, "component": component, "layer": int(layer[1:]), "positions": "all"}
    place |= {"head": int(head[0]) if head else None, "direction": "corrupt", "steps": [2, 5]}
    random = None if moved is None else 0.5
    return {**place, "estimate": 1.0, "patched": moved, "random": random, "gap": gap, **more}


def effects(*rows: dict[str, Any]) -> pl.DataFrame:
    return site_effects(LOCALISATION.frame(rows), DOMAINS)


def top(*rows: dict[str, Any], domain: str = "related", **more: Any) -> list[TopSite]:
    return top_sites(LOCALISATION.frame(rows), DOMAINS, domain, **more)


# Gaps 4 and 12: of 16 logits 2 are moved behind block 0, 10 behind block 1, 14 behind block 2.
BLOCKS = [
    row(prompt, f"L{layer}.resid_post", moved, gap)
    for prompt, gap, behind in (("p", 4, (1, 2, 3)), ("q", 12, (1, 8, 11)))
    for layer, moved in enumerate(behind)
]


def measures(table: pl.DataFrame, **place: Any) -> dict[str, float]:
    return dict(table.filter(**place).select("measure", "estimate").iter_rows())


def test_shares_are_ratios_of_sums_and_steps_their_differences():
    table = effects(*BLOCKS)
    assert dict(table.schema) == pl.Schema(SITE_EFFECTS.dtypes)
    # Attribution finds 2 of 16, a random direction 1 of 16; the lowest block's step is all that it moves.
    for layer, (moved, step) in enumerate(((2, 2), (10, 8), (14, 4))):
        shares = {"attribution": 2, "random": 1, "recovered_fraction": moved, "beyond": moved - 1, "step": step}
        assert measures(table, patch=f"L{layer}.resid_post") == {name: each / 16 for name, each in shares.items()}
    assert table.select("n_prompts", "steps").unique().rows() == [(2, 4)]
    # Two prompts are too few for an interval.
    assert table["low"].is_null().all()
    # A site has the measures that were made of it.
    heads = [row("p", "L1.head.0", None), row("p", "L1.head.1", 2.0), row("p", "L0.head.3", 2.0, random=None)]
    table, patched = effects(*heads), {"attribution": 0.25, "recovered_fraction": 0.5}
    assert measures(table, patch="L1.head.0") == {"attribution": 0.25}
    assert measures(table, patch="L1.head.1") == {**patched, "random": 0.125, "beyond": 0.375}
    assert measures(table, patch="L0.head.3") == patched
    assert table["patch"].unique(maintain_order=True).to_list() == ["L0.head.3", "L1.head.0", "L1.head.1"]

    rows = [row(prompt, "L0.resid_post", 1 + i * i / 20) for i, prompt in enumerate(DOZEN[:FEWEST_UNITS])]
    assert effects(*rows)["low"].is_not_null().all()
    assert effects(*rows[1:])["low"].is_null().all()
    assert not effects(*rows).equals(site_effects(LOCALISATION.frame(rows), DOMAINS, seed=1))


def test_domains_directions_and_positions_stay_apart():
    more = [row("g", "L0.resid_post", 3), row("p", "L0.resid_post", -4, -4, direction="repair")]
    more += [row("p", f"L{layer}.resid_post", 1 + 3 * layer, positions="current") for layer in (0, 1)]
    transfers = effects(*BLOCKS, *more).filter(patch="L0.resid_post", measure="recovered_fraction")
    assert transfers.select("domain", "direction", "positions", "estimate").rows() == [
        ("related", "corrupt", "all", 0.125),
        ("related", "repair", "all", 1.0),
        ("related", "corrupt", "current", 0.25),
        ("general", "corrupt", "all", 0.75),
    ]
    for positions, recovered in (("all", 0.5), ("current", 0.75)):
        assert [n.recovered_fraction for n in top(*BLOCKS, *more, positions=positions)] == [recovered]
    assert top(*BLOCKS, domain="general") == top(*BLOCKS, direction="repair") == []
    assert effects().is_empty()


def test_the_top_block_is_the_one_with_the_largest_step():
    moved = (("p", 4, (3, 1)), ("q", 12, (1, 9)))
    mlps = [row(prompt, f"L{i}.mlp_out", of, gap) for prompt, gap, both in moved for i, of in enumerate(both)]
    named = top(*BLOCKS, *mlps)
    assert [(n.component, n.patch, n.recovered_fraction, n.runner_up) for n in named] == [
        ("resid_post", "L1.resid_post", 0.5, "L2.resid_post"),
        ("mlp_out", "L1.mlp_out", 10 / 16, "L0.mlp_out"),
    ]
    # Prompt q chooses block 1 and then 2, p blocks 0 and then 1: held out, that is 1 + 1 of 16, less 1 + 7.
    assert (named[0].held_out.estimate, named[0].ahead.estimate) == (2 / 16, (2 - 8) / 16)
    # Without an interval nothing is told apart.
    assert not any(n.told_apart for n in named)


def many(first: float, second: float, wobble: float) -> list[TopSite]:
    """A dozen prompts on which two MLPs move so much of 10, one more and one less on every other prompt."""
    signs = [(prompt, wobble if i % 2 else -wobble) for i, prompt in enumerate(DOZEN)]
    first_mlp = [row(prompt, "L0.mlp_out", first + more, 10.0) for prompt, more in signs]
    return top(*first_mlp, *(row(prompt, "L1.mlp_out", second - more, 10.0) for prompt, more in signs))


def test_sites_are_told_apart_where_the_interval_of_their_difference_is_above_nothing():
    [apart] = many(8, 4, wobble=1)
    assert (apart.told_apart, apart.ahead.estimate) == (True, pytest.approx(0.4))
    assert 0 < apart.ahead.low < 0.4 < apart.ahead.high < 0.8
    assert apart.sentence.startswith("Top MLP: L0, recovered fraction 0.80, on prompts that did not choose it 0.80 [0.")
    assert "There it is ahead of the next, L1, by 0.40 [" in apart.sentence
    # The control: the same shares of which either is larger on half of the prompts.
    [alike] = many(6.2, 6.0, wobble=3)
    assert (alike.told_apart, alike.agreed) == (False, False)
    assert "It is not told apart from the next, L1: not both halves of the prompts choose it." in alike.sentence
    # One site alone has no next one, and a single prompt has no others to choose for it.
    [named] = top(row("p", "L1.head.2", 2), row("p", "L1.head.0", None))
    assert (named.patch, named.runner_up, named.told_apart) == ("L1.head.2", None, False)
    assert named.sentence == "Top head: L1 head 2, recovered fraction 0.50."
    # A place is all where the interval hardly leaves one: not as much on the average, and not in too few prompts.
    [whole], [uneven], [few] = many(10, 4, wobble=0.1), many(10, 4, wobble=3), top(row("p", "L0.mlp_out", 4))
    assert (whole.is_all, uneven.is_all, few.is_all, few.recovered_fraction) == (True, False, False, 1)
    assert ", which is everything. There it is ahead of the next, L1," in whole.sentence


def test_heads_are_chosen_by_half_of_the_prompts_from_what_that_half_has_screened():
    """Head 0 is the best of all prompts; the first half's own screen ranks head 2 highest, which was not measured."""

    def told(estimate_of_the_third: float) -> TopSite:
        measured = []
        for i, prompt in enumerate(DOZEN):
            heads = (4.0, 5.0), (2.0, 3.0), (None, 0.0 if i % 2 else estimate_of_the_third)
            measured += [row(prompt, f"L1.head.{j}", moved, 10.0, estimate=of) for j, (moved, of) in enumerate(heads)]
        [named] = top(*measured)
        return named

    assert (told(1.0).patch, told(1.0).held_out.estimate, told(1.0).ahead.estimate) == ("L1.head.0", 0.4, 0.2)
    # Whatever of it was measured was chosen by all prompts, those to be tested on among them.
    assert told(9.0).patch == "L1.head.0"
    assert (told(9.0).held_out.estimate, told(9.0).told_apart) == (None, False)
    # It may choose what it ranks above that.
    assert (told(4.0).held_out.estimate, told(4.0).ahead.estimate) == (0.4, None)


def diverged(prompt: str, layer: int, clean: float, corrupted: float, state: float, late: float) -> dict[str, Any]:
    four = TwoByTwo(clean, corrupted, state, late)
    effects = {name: getattr(four, name) for name in ("state_effect", "layers_effect", "interaction")}
    return {**dict.fromkeys(DIVERGENCES.columns), "prompt_id": prompt, "layer": layer, **asdict(four), **effects}


def test_state_and_later_layers_have_ratios_of_sums_over_prompts():
    # Gaps 4 and 12. Behind layer 0 the state does 1 of 4 and 3 of 12; behind layer 1 it does all.
    rows = [diverged("p", 0, -2, 2, -1, 1), diverged("q", 0, -6, 6, -3, 3)]
    rows += [diverged("p", 1, -2, 2, 2, -2), diverged("q", 1, -6, 6, 2, -6)]
    table = divergence_effects(DIVERGENCES.frame(rows), DOMAINS)
    assert dict(table.schema) == pl.Schema(DIVERGENCE_EFFECTS.dtypes)
    names = ("state_effect", "layers_effect", "interaction", "state_decides", "layers_decide")
    # Behind layer 1 it is 4 of 4 with no interaction, and (8 + 12) / 2 of 12 with 6 - 2 + 6 - 6 = 4 of interaction.
    for layer, shares in enumerate(((4 / 16, 12 / 16, 0, 0, 1), (14 / 16, 2 / 16, 4 / 16, 1, 0))):
        assert measures(table, layer=layer) == dict(zip(names, shares, strict=True))
    assert table.select("n_prompts", "low").unique().rows() == [(2, None)]
    assert divergence_effects(DIVERGENCES.frame(), {}).is_empty()
    # 8 of 8 prompts are not certainty.
    eight = [diverged(DOZEN[i], 0, -2, 2 + i, -1 + i * i / 9, 1) for i in range(FEWEST_UNITS)]
    table = divergence_effects(DIVERGENCES.frame(eight), DOMAINS)
    certain = table.row(by_predicate=pl.col("measure") == "layers_decide", named=True)
    assert (certain["estimate"], certain["high"]) == (1, pytest.approx(1))
    assert certain["low"] < 0.8
