"""Depth statistics against numbers worked out by hand, and their controls."""

from typing import Any

import polars as pl
import pytest

from crosspatch.statistics.depth import depth_statistics, pooled
from crosspatch.statistics.interval import wilson
from crosspatch.tables import CONTROLS, SCORES
from score_cells import AGREE, DOMAINS, PROMPTS, cell

LAYERS = {3: 0.2, 5: 0.8}


def at(layer: int, step: int, share: float, prompts=PROMPTS, **more: Any) -> list[dict[str, Any]]:
    """A cell of each prompt. A patch moves ΔL from -1 to 1 by this share, in each prompt a little more or less."""
    deltas = [(-1.0, 1.0, -1.0 + 2 * (share + (i - 4.5) / 100)) for i in range(len(prompts))]
    return [cell(prompt, layer, step, of, **more) for prompt, of in zip(prompts, deltas, strict=True)]


def scores() -> pl.DataFrame:
    cells = [cell(prompt, layer, 1, AGREE, kl_clean=0.0, kl_patched=0.0) for prompt in PROMPTS for layer in LAYERS]
    for layer, share in LAYERS.items():
        written = 2 if share > 0.5 else 1
        ranks = {"token_id": written, "rank_corrupted": 3 - written}
        cells += at(layer, 0, share, kl_clean=2.0, kl_patched=2.0 - share, **ranks)
    return SCORES.frame(cells)


def controls(share: float = 0.1, prompts=PROMPTS) -> pl.DataFrame:
    cells = [row for layer in LAYERS for row in at(layer, 0, share, prompts)]
    return CONTROLS.frame({"control": "random", **row} for row in cells)


def found(table, measure: str, layer: int | None, control: str | None = None, contrast: str = "value") -> dict:
    place = pl.col("control").eq_missing(control), pl.col("layer").eq_missing(layer)
    [row] = table.filter(*place, measure=measure, contrast=contrast).to_dicts()
    return row


def test_measures_by_hand() -> None:
    table = depth_statistics(scores(), CONTROLS.frame(), DOMAINS)
    at_layers = {
        "disagreement_rate": (0.5, 0.5),
        "mean_cts": (0.2, 0.8),
        "recovered_fraction": (0.2, 0.8),
        "kl_recovered_fraction": (0.1, 0.4),
        "flip_rate": (0.0, 1.0),
        "reciprocal_rank": (0.5, 1.0),
    }
    for measure, estimates in at_layers.items():
        assert [found(table, measure, at)["estimate"] for at in LAYERS] == pytest.approx(estimates, abs=1e-6), measure
    step = found(table, "recovered_fraction", 5, contrast="step")
    assert step["estimate"] == pytest.approx(0.6, abs=1e-6)
    # The prompts differ, but each by the same at both layers: the step is surer than the transfer.
    transfer = found(table, "recovered_fraction", 5)
    assert transfer["low"] < 0.8 < transfer["high"]
    assert step["high"] - step["low"] < 1e-4
    assert (transfer["n_prompts"], transfer["cells"]) == (10, 10)
    assert found(table, "disagreement_rate", 3)["cells"] == 20
    assert table.filter(contrast="step", layer=3).is_empty()
    # The bootstrap is seeded.
    again, other = (depth_statistics(scores(), CONTROLS.frame(), DOMAINS, seed=seed) for seed in (0, 1))
    assert (table.equals(again), table.equals(other)) == (True, False)
    with pytest.raises(ValueError, match="got no domain for the prompt 'p00'"):
        depth_statistics(scores(), CONTROLS.frame(), {})


def test_a_control_is_compared_in_the_same_cells() -> None:
    table = depth_statistics(scores(), controls(), DOMAINS)
    value, beyond = (found(table, "recovered_fraction", 5, "random", contrast) for contrast in ("value", "beyond"))
    assert (value["estimate"], beyond["estimate"]) == pytest.approx((0.1, 0.7), abs=1e-6)
    assert beyond["low"] > 0
    # A control that does as much leaves nothing.
    same = found(depth_statistics(scores(), controls(0.8), DOMAINS), "recovered_fraction", 5, "random", "beyond")
    assert same["low"] - 1e-6 <= 0 <= same["high"] + 1e-6
    # A prompt without the control is left out of the comparison.
    far = pl.when(prompt_id="p09").then(pl.lit(100.0, pl.Float32)).otherwise("delta_patched")
    table = depth_statistics(scores().with_columns(delta_patched=far), controls(prompts=PROMPTS[:9]), DOMAINS)
    assert found(table, "recovered_fraction", 5)["estimate"] > 5
    beyond = found(table, "recovered_fraction", 5, "random", "beyond")
    assert (beyond["estimate"], beyond["n_prompts"]) == (pytest.approx(0.7, abs=0.01), 9)
    # The same in all cells but those that no control is scored in: they are small, or a patch rests in them.
    unscored = {2: "small_denominator", 3: "unscheduled"}
    more = [row for step, status in unscored.items() for row in at(5, step, 0.8, token_id=2, cts=None, status=status)]
    same = CONTROLS.frame({"control": "it", **row} for row in scores().filter(status="ok").iter_rows(named=True))
    table = depth_statistics(pl.concat([scores(), SCORES.frame(more)]), same, DOMAINS)
    for measure in ("mean_cts", "recovered_fraction", "flip_rate", "reciprocal_rank"):
        assert found(table, measure, 5, "it", "beyond")["estimate"] == pytest.approx(0), measure


@pytest.mark.parametrize("direction", ["corrupt", "repair"])
@pytest.mark.parametrize(
    ("shares", "largest", "layer"),
    [
        ([0.1, 0.3, 0.6, 0.8], 0.3, 2),
        # The lowest layer has a step too, and so has what is above the highest.
        ([0.6, 0.7, 0.8, 0.9], 0.6, 0),
        ([0.1, 0.2, 0.2, 0.3], 0.7, 5),
    ],
)
def test_the_largest_step_on_the_way(direction, shares, largest, layer) -> None:
    left = shares if direction == "corrupt" else [1 - share for share in shares]
    rows = SCORES.frame(row for layer, share in enumerate(left) for row in at(layer, 0, share, direction=direction))
    table = depth_statistics(rows, CONTROLS.frame(), DOMAINS, n_layers=6)
    [row] = table.filter(contrast="largest_step").to_dicts()
    assert (row["layer"], row["estimate"]) == (layer, pytest.approx(largest, abs=1e-6))
    assert row["low"] <= row["estimate"] + 1e-6 <= row["high"] + 2e-6
    two = depth_statistics(rows.filter(pl.col("prompt_id").is_in(PROMPTS[:2])), CONTROLS.frame(), DOMAINS, n_layers=6)
    [few] = two.filter(contrast="largest_step").to_dicts()
    assert (few["low"], few["high"]) == (None, None)


def test_all_layers_but_the_last_count_alike_together() -> None:
    # Layer 5 has nine cells more in each prompt, all as its first.
    more = [row for k in range(9) for row in at(5, 2 + k, 0.8, token_id=2)]
    table = depth_statistics(pl.concat([scores(), SCORES.frame(more)]), controls(), DOMAINS, n_layers=8)
    assert found(table, "recovered_fraction", None)["estimate"] == pytest.approx((0.2 + 0.8) / 2, abs=1e-6)
    beyond = found(table, "recovered_fraction", None, "random", "beyond")
    assert beyond["estimate"] == pytest.approx(0.5 - 0.1, abs=1e-6)
    # Layers 3 and 5: of a model of 6 there is one below the last, which is no more than itself.
    for n_layers in (6, None):
        assert depth_statistics(scores(), CONTROLS.frame(), DOMAINS, n_layers=n_layers)["layer"].null_count() == 0


def test_a_domain_without_a_disagreement_is_told_from_one_that_has_some() -> None:
    steps = [(layer, t) for layer in LAYERS for t in range(20)]
    rows = [cell(f"g{i}", *step, AGREE) for i in range(12) for step in steps]
    for i, prompt in enumerate(PROMPTS):
        rows += [cell(prompt, *step, (-1.0, 1.0, 0.0) if step[1] <= i % 2 else AGREE) for step in steps]
    domains = DOMAINS | {f"g{i}": "general" for i in range(12)}
    table = depth_statistics(SCORES.frame(rows), CONTROLS.frame(), domains)
    none, some = (found(table.filter(domain=name), "disagreement_rate", 3) for name in ("general", "related"))
    # So many of 12 prompts might have any, and one that has, as much as those that do: at most two steps of 20.
    assert none["high"] == pytest.approx(wilson(0, 12).high / 10)
    assert none["high"] < some["low"]
    assert table["domain"].unique(maintain_order=True).to_list() == ["related", "general"]
    few = pl.concat([scores(), SCORES.frame([cell("g0", 3, 0, (-1, 1, 0))])])
    lone = found(depth_statistics(few, CONTROLS.frame(), domains).filter(domain="general"), "recovered_fraction", 3)
    assert (lone["estimate"], lone["low"], lone["high"]) == (0.5, None, None)


NESTED = {f"{seed}/{prompt}": "related" for seed in range(5) for prompt in PROMPTS}


def of_seeds(count: int, more: pl.Expr | float = 0.0, by_seed=(0.0, 0.2)) -> dict[str, pl.DataFrame]:
    """The runs of several seeds, which transfer more by turns, and `more` in all of them."""
    moved = [pl.col("delta_patched") + more + by_seed[seed % len(by_seed)] for seed in range(count)]
    return {str(seed): scores().with_columns(delta_patched=of) for seed, of in enumerate(moved)}


def over_seeds(runs: dict[str, pl.DataFrame], shared=(), beside: pl.DataFrame | None = None, **more: Any) -> dict:
    beside = CONTROLS.frame() if beside is None else beside
    table = depth_statistics(pooled(runs, shared), beside, DOMAINS if shared else NESTED)
    return found(table, "recovered_fraction", 5, **more)


def width(row: dict[str, Any]) -> float:
    return row["high"] - row["low"]


def test_several_seeds_are_drawn_above_their_prompts() -> None:
    row = over_seeds(of_seeds(5))
    assert (row["n_prompts"], row["estimate"]) == (5, pytest.approx(0.8 + 0.1 * 2 / 5, abs=1e-6))
    assert over_seeds(of_seeds(4))["low"] is None
    # 50 prompts would have shown it far more surely than 5 children can.
    alone = depth_statistics(pooled(of_seeds(5), ()).drop("seed"), CONTROLS.frame(), NESTED)
    assert width(row) > 3 * width(found(alone, "recovered_fraction", 5))
    # Controls are compared under each seed.
    of_random = {"beside": pooled({str(seed): controls() for seed in range(5)}, PROMPTS), "control": "random"}
    beyond = over_seeds(of_seeds(5), PROMPTS, contrast="beyond", **of_random)
    own, control = over_seeds(of_seeds(5), PROMPTS), over_seeds(of_seeds(5), PROMPTS, **of_random)
    assert (beyond["n_prompts"], beyond["estimate"]) == (5, pytest.approx(own["estimate"] - control["estimate"]))


def test_questions_that_all_seeds_share_are_crossed_with_the_seeds() -> None:
    assert pooled(of_seeds(2), shared=PROMPTS[:1])["prompt_id"].unique(maintain_order=True).to_list() == [
        PROMPTS[0], *(f"0/{prompt}" for prompt in PROMPTS[1:]), *(f"1/{prompt}" for prompt in PROMPTS[1:]),
    ]  # fmt: skip
    # The same prompts transfer more under every seed: that varies between prompts, of which there are 10 and not 50.
    runs = of_seeds(5, 0.3 * pl.col("prompt_id").is_in(PROMPTS[::2]), (0.0, 0.01, 0.02, 0.03, 0.04))
    crossed, nested = over_seeds(runs, PROMPTS), over_seeds(runs)
    assert crossed["estimate"] == pytest.approx(nested["estimate"])
    assert width(crossed) > 3 * width(nested)
