"""Depth statistics against numbers worked out by hand, and their controls."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from crosspatch.statistics.depth import depth_statistics, pooled
from crosspatch.statistics.interval import wilson
from crosspatch.tables import CONTROLS, SCORES
from score_cells import cell

PROMPTS = [f"p{i:02d}" for i in range(10)]
DOMAINS = dict.fromkeys(PROMPTS, "related") | {"g": "general"}
# ΔL goes from -1 to 1 over a patch; the prompts differ a little.
LAYERS = {3: 0.2, 5: 0.8}


def patched(share: float, i: int) -> tuple[float, float, float]:
    return (-1.0, 1.0, -1.0 + 2 * (share + (i - 4.5) / 100))


def scores(prompts=PROMPTS) -> pl.DataFrame:
    cells = []
    for i, prompt in enumerate(prompts):
        for layer, share in LAYERS.items():
            written = 2 if share > 0.5 else 1
            more = {"token_id": written, "rank_corrupted": 3 - written, "kl_clean": 2.0, "kl_patched": 2.0 - share}
            cells.append(cell(prompt, layer, 0, patched(share, i), **more))
            cells.append(cell(prompt, layer, 1, (0.0, 0.0, 0.0), kl_clean=0.0, kl_patched=0.0))
    return SCORES.frame(cells)


def controls(share: float = 0.1, name: str = "random", prompts=PROMPTS) -> pl.DataFrame:
    return CONTROLS.frame(
        {"control": name, **cell(prompt, layer, 0, patched(share, i))}
        for i, prompt in enumerate(prompts)
        for layer in LAYERS
    )


def found(
    table: pl.DataFrame, measure: str, layer: int | None, control: str | None = None, contrast: str = "value"
) -> dict:
    place = pl.col("control").eq_missing(control), pl.col("layer").eq_missing(layer)
    [row] = table.filter(*place, measure=measure, contrast=contrast).to_dicts()
    return row


def test_measures_by_hand() -> None:
    table = depth_statistics(scores(), CONTROLS.frame(), DOMAINS)
    for measure, at_layers in {
        "disagreement_rate": (0.5, 0.5),
        "mean_cts": (0.2, 0.8),
        "recovered_fraction": (0.2, 0.8),
        "kl_recovered_fraction": (0.1, 0.4),
        "flip_rate": (0.0, 1.0),
        "reciprocal_rank": (0.5, 1.0),
    }.items():
        estimates = tuple(found(table, measure, layer)["estimate"] for layer in (3, 5))
        assert estimates == pytest.approx(at_layers, abs=1e-6), measure
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
    with pytest.raises(ValueError, match="no domain known for prompt 'p00'"):
        depth_statistics(scores(), CONTROLS.frame(), {})


def test_a_control_is_compared_in_the_same_cells() -> None:
    table = depth_statistics(scores(), controls(), DOMAINS)
    assert found(table, "recovered_fraction", 5, "random")["estimate"] == pytest.approx(0.1, abs=1e-6)
    beyond = found(table, "recovered_fraction", 5, "random", "beyond")
    assert beyond["estimate"] == pytest.approx(0.7, abs=1e-6)
    assert beyond["low"] > 0
    # A control that does as much leaves nothing.
    same = found(depth_statistics(scores(), controls(0.8), DOMAINS), "recovered_fraction", 5, "random", "beyond")
    assert same["low"] <= 1e-6
    assert same["high"] >= -1e-6
    # A prompt without the control is left out of the comparison.
    far = pl.when(prompt_id="p09").then(pl.lit(100.0, pl.Float32)).otherwise("delta_patched")
    table = depth_statistics(scores().with_columns(delta_patched=far), controls(prompts=PROMPTS[:9]), DOMAINS)
    assert found(table, "recovered_fraction", 5)["estimate"] > 5
    beyond = found(table, "recovered_fraction", 5, "random", "beyond")
    assert (beyond["estimate"], beyond["n_prompts"]) == (pytest.approx(0.7, abs=0.01), 9)


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
    rows = []
    for i, prompt in enumerate(PROMPTS):
        for at, share in enumerate(shares):
            left = share if direction == "corrupt" else 1 - share
            rows.append(cell(prompt, at, 0, patched(left, i), direction=direction))
    table = depth_statistics(SCORES.frame(rows), CONTROLS.frame(), DOMAINS, n_layers=6)
    [row] = table.filter(contrast="largest_step").to_dicts()
    assert (row["layer"], row["estimate"]) == (layer, pytest.approx(largest, abs=1e-6))
    assert row["low"] <= row["estimate"] + 1e-6 <= row["high"] + 2e-6
    few_table = depth_statistics(SCORES.frame(rows[:8]), CONTROLS.frame(), DOMAINS, n_layers=6)
    [few] = few_table.filter(contrast="largest_step").to_dicts()
    assert (few["low"], few["high"]) == (None, None)


def test_all_layers_but_the_last_count_alike_together() -> None:
    # Layer 5 has nine cells more in each prompt, all as its first.
    more = [cell(prompt, 5, 2 + k, patched(0.8, i), token_id=2) for i, prompt in enumerate(PROMPTS) for k in range(9)]
    table = depth_statistics(pl.concat([scores(), SCORES.frame(more)]), controls(), DOMAINS, n_layers=8)
    assert found(table, "recovered_fraction", None)["estimate"] == pytest.approx((0.2 + 0.8) / 2, abs=1e-6)
    beyond = found(table, "recovered_fraction", None, "random", "beyond")
    assert beyond["estimate"] == pytest.approx(0.5 - 0.1, abs=1e-6)
    # Layers 3 and 5: of a model of 6 there is one below the last, which is no more than itself.
    for n_layers in (6, None):
        assert depth_statistics(scores(), CONTROLS.frame(), DOMAINS, n_layers=n_layers)["layer"].null_count() == 0


def test_a_control_is_compared_where_there_is_a_cts() -> None:
    # Everywhere the same but in cells that no control is scored in: those that are small, or in which a patch rests.
    more = [
        cell(prompt, 5, 2 + k, patched(0.8, i), token_id=2, cts=None, status=status)
        for i, prompt in enumerate(PROMPTS)
        for k, status in enumerate(("small_denominator", "unscheduled"))
    ]
    table = pl.concat([scores(), SCORES.frame(more)])
    same = CONTROLS.frame({"control": "it", **row} for row in scores().filter(status="ok").iter_rows(named=True))
    made = depth_statistics(table, same, DOMAINS)
    for measure in ("mean_cts", "recovered_fraction", "flip_rate", "reciprocal_rank"):
        assert found(made, measure, 5, "it", "beyond")["estimate"] == pytest.approx(0), measure


def test_a_domain_without_a_disagreement_is_told_from_one_that_has_some() -> None:
    agreeing = [cell(f"g{i}", layer, t, (0.0, 0.0, 0.0)) for i in range(12) for layer in LAYERS for t in range(20)]
    sparse = [
        cell(prompt, layer, t, (-1.0, 1.0, 0.0) if t <= i % 2 else (0.0, 0.0, 0.0))
        for i, prompt in enumerate(PROMPTS)
        for layer in LAYERS
        for t in range(20)
    ]
    domains = DOMAINS | {f"g{i}": "general" for i in range(12)}
    table = depth_statistics(SCORES.frame(agreeing + sparse), CONTROLS.frame(), domains)
    none, some = (found(table.filter(domain=name), "disagreement_rate", 3) for name in ("general", "related"))
    # So many of 12 prompts might have any, and one that has, as much as those that do: at most two steps of 20.
    assert none["high"] == pytest.approx(wilson(0, 12).high / 10)
    assert none["high"] < some["low"]
    assert table["domain"].unique(maintain_order=True).to_list() == ["related", "general"]


NESTED = {f"{seed}/{prompt}": "related" for seed in range(5) for prompt in PROMPTS}


def of_seeds(
    count: int, more: pl.Expr | float = 0.0, by_seed: tuple[float, ...] = (0.0, 0.2)
) -> dict[str, pl.DataFrame]:
    """The runs of several seeds, which transfer more by turns, and `more` in all of them."""
    return {
        str(seed): scores().with_columns(delta_patched=pl.col("delta_patched") + more + by_seed[seed % len(by_seed)])
        for seed in range(count)
    }


def over_seeds(runs: dict[str, pl.DataFrame], shared=(), beside: pl.DataFrame | None = None, **more: Any) -> dict:
    together, domains = pooled(runs, shared), DOMAINS if shared else NESTED
    table = depth_statistics(together, CONTROLS.frame() if beside is None else beside, domains)
    return found(table, "recovered_fraction", 5, **more)


def width(row: dict[str, Any]) -> float:
    return row["high"] - row["low"]


def test_several_seeds_are_drawn_above_their_prompts() -> None:
    row = over_seeds(of_seeds(5))
    assert row["n_prompts"] == 5
    assert row["estimate"] == pytest.approx(0.8 + 0.1 * 2 / 5, abs=1e-6)
    # 50 prompts would have shown it far more surely than 5 children can.
    alone = depth_statistics(pooled(of_seeds(5), ()).drop("seed"), CONTROLS.frame(), NESTED)
    assert width(row) > 3 * width(found(alone, "recovered_fraction", 5))
    # Four seeds are too few.
    assert over_seeds(of_seeds(4))["low"] is None


def test_questions_that_all_seeds_share_are_crossed_with_the_seeds() -> None:
    assert pooled(of_seeds(2), shared=PROMPTS[:1])["prompt_id"].unique(maintain_order=True).to_list() == [
        PROMPTS[0], *(f"0/{prompt}" for prompt in PROMPTS[1:]), *(f"1/{prompt}" for prompt in PROMPTS[1:]),
    ]  # fmt: skip
    # The same prompts transfer more under every seed: that varies between prompts, of which there are 10 and not 50.
    runs = of_seeds(5, 0.3 * pl.col("prompt_id").is_in(PROMPTS[::2]), (0.0, 0.01, 0.02, 0.03, 0.04))
    crossed, nested = over_seeds(runs, PROMPTS), over_seeds(runs)
    assert crossed["estimate"] == pytest.approx(nested["estimate"])
    assert width(crossed) > 3 * width(nested)


def test_controls_of_several_seeds_are_compared_under_each() -> None:
    of_random = {"beside": pooled({str(seed): controls() for seed in range(5)}, PROMPTS), "control": "random"}
    beyond = over_seeds(of_seeds(5), PROMPTS, contrast="beyond", **of_random)
    own, control = over_seeds(of_seeds(5), PROMPTS), over_seeds(of_seeds(5), PROMPTS, **of_random)
    assert beyond["estimate"] == pytest.approx(own["estimate"] - control["estimate"])
    assert beyond["n_prompts"] == 5
