"""State against later layers over prompts: numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from crosspatch.statistics.interval import FEWEST_UNITS
from crosspatch.statistics.localisation import divergence_effects
from crosspatch.tables import DIVERGENCE_EFFECTS, DIVERGENCES

DOMAINS = {"p": "related", "q": "related", "g": "general"}


def row(prompt: str, layer: int, clean: float, corrupted: float, state: float, late: float) -> dict[str, Any]:
    return {
        "prompt_id": prompt,
        "step": 3,
        "position": 20,
        "clean_token_id": 1,
        "clean_token": "Sub",
        "corrupted_token_id": 2,
        "corrupted_token": "Add",
        "layer": layer,
        "delta_clean": clean,
        "delta_corrupted": corrupted,
        "delta_corrupted_state": state,
        "delta_corrupted_layers": late,
        "state_effect": ((state - clean) + (corrupted - late)) / 2,
        "layers_effect": ((late - clean) + (corrupted - state)) / 2,
        "interaction": corrupted - state - late + clean,
    }


def measures(table: pl.DataFrame, layer: int, domain: str = "related") -> dict[str, float]:
    return dict(table.filter(layer=layer, domain=domain).select("measure", "estimate").iter_rows())


def test_shares_are_ratios_of_sums_over_prompts():
    # Gaps 4 and 12. Behind layer 0 the state does 1 of 4 and 3 of 12; behind layer 1 it does all.
    rows = [row("p", 0, -2, 2, -1, 1), row("q", 0, -6, 6, -3, 3)]
    rows += [row("p", 1, -2, 2, 2, -2), row("q", 1, -6, 6, 2, -6)]
    table = divergence_effects(DIVERGENCES.frame(rows), DOMAINS)
    assert dict(table.schema) == pl.Schema(DIVERGENCE_EFFECTS.dtypes)
    assert measures(table, 0) == {
        "state_effect": 4 / 16,
        "layers_effect": 12 / 16,
        "interaction": 0,
        "state_decides": 0,
        "layers_decide": 1,
    }
    # 4 of 4 with no interaction, and (8 + 12) / 2 of 12 with 6 - 2 + 6 - 6 = 4 of interaction.
    assert measures(table, 1) == {
        "state_effect": 14 / 16,
        "layers_effect": 2 / 16,
        "interaction": 4 / 16,
        "state_decides": 1,
        "layers_decide": 0,
    }
    assert table["n_prompts"].unique().to_list() == [2]
    assert table["low"].is_null().all()


def test_domains_stay_apart_and_enough_prompts_have_intervals():
    prompts = [f"p{i}" for i in range(FEWEST_UNITS)]
    rows = [row(name, 0, -2, 2 + i, -1 + i * i / 9, 1) for i, name in enumerate(prompts)]
    table = divergence_effects(
        DIVERGENCES.frame([*rows, row("g", 0, -1, 1, 1, -1)]), {**dict.fromkeys(prompts, "related"), **DOMAINS}
    )
    assert table["domain"].unique(maintain_order=True).to_list() == ["related", "general"]
    assert table.filter(domain="related")["low"].is_not_null().all()
    assert table.filter(domain="general")["low"].is_null().all()
    assert measures(table, 0, "general")["state_effect"] == 1
    # 8 of 8 prompts are not certainty.
    certain = table.filter(domain="related", measure="layers_decide").row(0, named=True)
    assert (certain["estimate"], certain["high"]) == (1, pytest.approx(1))
    assert certain["low"] < 0.8


def test_a_prompt_without_a_domain_is_refused_and_nothing_gives_nothing():
    with pytest.raises(ValueError, match="no domain known"):
        divergence_effects(DIVERGENCES.frame([row("x", 0, -1, 1, 1, -1)]), DOMAINS)
    assert divergence_effects(DIVERGENCES.frame(), {}).is_empty()
