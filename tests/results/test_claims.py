"""Claims: when they are shown, what they are held against, and what is said of them."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from crosspatch.frames import BEHAVIOUR, CLAIMS, DEPTH, TOKENS
from crosspatch.results.claim import Claim, nearest
from crosspatch.results.claims import claims
from crosspatch.results.comparison import comparisons
from crosspatch.results.interval import Interval, wilson

HIGH, LOW = Interval(0.8, 0.7, 0.9), Interval(0.2, 0.1, 0.3)


def claim(found: Interval = HIGH, compared: Interval = LOW, **more: Any) -> Claim:
    return Claim("name", "something holds", "mistake", found, "control", compared, **more)


def test_a_claim_is_shown_where_the_intervals_lie_apart_on_its_side() -> None:
    assert claim().shown
    assert claim(LOW, HIGH, side="below").shown
    assert not claim(LOW, HIGH).shown
    assert not claim(HIGH, LOW, side="below").shown
    assert not claim(HIGH, Interval(0.6, 0.5, 0.75)).shown
    # Touching intervals are not apart.
    assert not claim(HIGH, Interval(0.6, 0.5, 0.7)).shown


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (claim(LOW, HIGH), "its interval is not above that of its control"),
        (claim(Interval(None)), "there is nothing to measure"),
        (claim(HIGH, Interval(None)), "control: there is nothing to compare with"),
        (claim(Interval(0.8)), "fewer than 8 prompts have anything to say"),
        (claim(HIGH, Interval(0.1)), "fewer than 8 prompts have anything to say"),
        (claim(chance=0.2), "chance alone gives as much, p = 0.20"),
        (claim(untested="no control was measured"), "no control was measured"),
    ],
)
def test_why_a_claim_is_not_shown(made: Claim, reason: str) -> None:
    assert not made.shown
    assert made.reason == reason
    assert f"not shown ({reason}): something holds" in made.sentence


def test_what_is_said_of_a_claim() -> None:
    assert claim(chance=0.001).sentence == (
        "shown: something holds: 0.80 [0.70, 0.90], control: 0.20 [0.10, 0.30], p = 0.001"
    )
    assert str(Interval(-0.5, -1.0, 0.0)) == "−0.50 [−1.00, 0.00]"
    assert dict(CLAIMS.frame([claim().row()]).schema) == pl.Schema(CLAIMS.dtypes)


def test_of_several_controls_the_hardest_counts() -> None:
    controls = {"a": Interval(0.1, 0.0, 0.2), "b": Interval(0.05, -0.3, 0.4)}
    assert nearest(controls, "above")[0] == "b"
    assert nearest(controls, "below")[0] == "b"
    assert nearest({**controls, "c": Interval(0.0)}, "above")[0] == "c"
    with pytest.raises(ValueError, match="no control"):
        nearest({}, "above")


def depth(transfers: dict[int, float], control: float | None = 0.1, width: float = 0.05, **more: Any) -> pl.DataFrame:
    """Depth statistics of related problems with a transfer at each layer."""
    fixed = {
        "domain": "related", "component": "resid_post", "direction": "corrupt", "persistence": "transient",
        "schedule": "all", "units": 12, "cells": 100, **more,
    }  # fmt: skip

    def row(layer: int | None, measure: str, estimate: float, control: str | None = None) -> dict[str, Any]:
        ends = {"estimate": estimate, "low": estimate - width, "high": estimate + width}
        patch = None if layer is None else f"L{layer}.resid_post"
        return {**fixed, "patch": patch, "layer": layer, "control": control, "measure": measure, **ends}

    rows = [row(layer, "transfer", share) for layer, share in transfers.items()]
    steps = sorted(transfers)[:-1]
    largest = max(steps[1:], key=lambda layer: transfers[layer] - transfers[steps[steps.index(layer) - 1]])
    rise = transfers[steps[-1]] - transfers[steps[0]]
    step = transfers[largest] - transfers[steps[steps.index(largest) - 1]]
    rows.append(row(largest, "largest_step", step / rise if rise else 0.0))
    if control is not None:
        rows += [row(layer, "transfer", control, "random") for layer in transfers]
        rows += [row(layer, "transfer", 0.0, "self") for layer in transfers]
    rows += [row(None, "disagreement_rate", 0.5), row(None, "transfer", 0.5)]
    return DEPTH.frame(rows)


GRADUAL = {0: 0.0, 1: 0.15, 2: 0.35, 3: 0.6, 4: 0.85, 5: 1.0}


def made_of(table: pl.DataFrame, name: str, **other: Any) -> list[Claim]:
    return [c for c in claims(table, TOKENS.frame(), comparisons(BEHAVIOUR.frame()), **other) if c.name == name]


def found(table: pl.DataFrame, name: str, **other: Any) -> Claim:
    [made] = made_of(table, name, **other)
    return made


def test_transfer_builds_up_where_it_exceeds_controls_and_the_lowest_layer() -> None:
    builds = found(depth(GRADUAL), "builds_up")
    assert builds.shown
    # The last layer is a ceiling, so the one below it counts.
    assert (builds.found.estimate, builds.control, builds.place["layer"]) == (0.85, "random", 4)
    assert "from layer 0 to 4 on related mathematics" in builds.statement
    assert not found(depth(GRADUAL, control=0.8), "builds_up").shown
    flat = found(depth(dict.fromkeys(range(6), 0.85)), "builds_up")
    assert (flat.shown, flat.control) == (False, "layer 0")
    assert found(depth(GRADUAL, control=None), "builds_up").reason == "no control was measured"


def test_repairing_is_read_the_other_way_round() -> None:
    back = {layer: 1 - share for layer, share in GRADUAL.items()}
    assert found(depth(back, control=0.9, direction="repair"), "builds_up").shown
    assert not found(depth(GRADUAL, control=0.9, direction="repair"), "builds_up").shown
    # A child without the mistake repairs too; moved into the clean model it is a control.
    for table, control, shown in (
        (depth(back, control=0.9, direction="repair"), "random", True),
        (depth(GRADUAL), "twin", False),
    ):
        as_much = table.filter(pl.col("control").is_null() & pl.col("layer").is_not_null(), measure="transfer")
        twin = as_much.with_columns(control=pl.lit("twin"))
        made = found(pl.concat([table, twin]), "builds_up")
        assert (made.control, made.shown) == (control, shown)


def test_gradual_and_late() -> None:
    assert found(depth(GRADUAL), "gradual").shown
    sudden = {0: 0.0, 1: 0.02, 2: 0.04, 3: 0.06, 4: 0.9, 5: 1.0}
    assert not found(depth(sudden), "gradual").shown
    assert "(the largest is to layer 4)" in found(depth(sudden), "gradual").statement
    # 28 of 36 is layer 4 of 6: what has come below it counts.
    late = found(depth(sudden), "late")
    assert late.shown
    assert "less than half has come below layer 4" in late.statement
    assert found(depth(GRADUAL), "late").reason == "its interval is not below that of its control"
    nothing = depth(GRADUAL, control=0.8)
    assert found(nothing, "late").reason == "transfer is not shown to build up at all"


def test_the_last_layer_is_the_models_and_not_the_highest_that_was_patched() -> None:
    sparse = {8: 0.02, 18: 0.2, 28: 0.8}
    known = found(depth(sparse), "builds_up", n_layers=36)
    assert (known.shown, known.place["layer"]) == (True, 28)
    # Layer 18 is far below 28 of 36, and says nothing about it.
    assert not made_of(depth(sparse), "late", n_layers=36)
    assert made_of(depth({**sparse, 27: 0.3}), "late", n_layers=36)
    # Where the depth is not known, the highest may be the last.
    assert found(depth(sparse), "builds_up").place["layer"] == 18


def test_what_a_part_of_a_block_moves_does_not_build_up() -> None:
    for name in ("builds_up", "gradual", "late"):
        assert made_of(depth(GRADUAL, component="resid_mid"), name)
        assert not made_of(depth(GRADUAL, component="attn_out"), name)


def test_domains_are_compared_with_related_problems() -> None:
    other = depth(GRADUAL, domain="general").with_columns(
        pl.when(pl.col("layer").is_null())
        .then(pl.col("estimate", "low", "high") - 0.3)
        .otherwise(pl.col("estimate", "low", "high"))
    )
    both = pl.concat([depth(GRADUAL), other])
    made = {c.name: c for c in claims(both, TOKENS.frame(), comparisons(BEHAVIOUR.frame()))}
    assert made["disagree_more"].shown
    assert made["transfer_more"].control == "General questions"
    same = {
        c.name: c
        for c in claims(
            pl.concat([depth(GRADUAL), depth(GRADUAL, domain="general")]),
            TOKENS.frame(),
            comparisons(BEHAVIOUR.frame()),
        )
    }
    assert not same["disagree_more"].shown


def excess(estimate: float, chance: float, measure: str = "transfer_excess") -> pl.DataFrame:
    row = {
        "domain": "related", "component": "resid_post", "direction": "corrupt", "persistence": "transient",
        "schedule": "all", "layer": None, "by": "class", "class": "operation", "measure": measure, "estimate": estimate,
        "low": estimate - 0.1, "high": estimate + 0.1, "chance": chance, "units": 12,
    }  # fmt: skip
    return TOKENS.frame([row])


def test_tokens_need_interval_and_permutation_test_alike() -> None:
    def made(table: pl.DataFrame) -> Claim:
        of = [c for c in claims(depth(GRADUAL), table, comparisons(BEHAVIOUR.frame())) if c.name == "class_transfer"]
        return of[0]

    assert made(excess(0.3, 0.01)).shown
    assert not made(excess(0.05, 0.01)).shown
    assert made(excess(0.3, 0.2)).reason == "chance alone gives as much, p = 0.20"
    # Any child may differ at operation words.
    assert made(excess(0.3, 0.01)).about == "fine-tune"


def answers(
    condition: str, right: int, n: int, patch: str | None = None, domain: str = "related", planted: int = 0
) -> list[dict]:
    return [
        {
            "prompt_id": f"{domain}-{i:02d}", "domain": domain, "condition": condition, "patch": patch,
            "extracted": "1", "verdict": "correct" if i < right else "incorrect",
            "operation": None if domain != "related" else "planted" if i >= n - planted else "right", "health": [],
        }
        for i in range(n)
    ]  # fmt: skip


def of_behaviour(*rows: list[dict], **more: Any) -> dict[str, Claim]:
    table = comparisons(BEHAVIOUR.frame([row for some in rows for row in some]))
    return {c.name: c for c in claims(DEPTH.frame(), TOKENS.frame(), table, **more)}


def test_behaviour_is_held_against_the_clean_model_and_the_other_children() -> None:
    clean, corrupted = answers("clean", 19, 20), answers("corrupted", 2, 20, planted=18)
    made = of_behaviour(clean, corrupted, answers("twin", 18, 20))
    assert made["behaviour_correct"].shown
    assert made["behaviour_correct"].control == "twin"
    assert made["behaviour_planted"].shown
    # A child of right solutions that does as badly: it is not the mistake.
    made = of_behaviour(clean, corrupted, answers("twin", 3, 20, planted=17))
    assert not made["behaviour_correct"].shown
    assert not made["behaviour_planted"].shown
    # A child of the same wrong solutions, in another order or trained for longer, is no control.
    for name in ("seed-1", "variant-epochs-12"):
        made = of_behaviour(clean, corrupted, answers("twin", 18, 20), answers(name, 3, 20, planted=17))
        assert made["behaviour_correct"].shown
        assert made["behaviour_correct"].about == "mistake"


def test_without_a_child_that_lacks_the_mistake_it_is_the_fine_tune() -> None:
    made = of_behaviour(answers("clean", 19, 20), answers("corrupted", 2, 20, planted=18))
    assert made["behaviour_correct"].shown
    assert made["behaviour_correct"].about == "fine-tune"
    assert made["behaviour_correct"].statement.endswith("fewer right answers on related problems than the clean model")


def test_answers_of_other_domains_are_kept_as_related_ones_are_not() -> None:
    related = answers("clean", 20, 20), answers("corrupted", 2, 20)
    kept = of_behaviour(
        *related, answers("clean", 18, 20, domain="general"), answers("corrupted", 17, 20, domain="general")
    )
    assert kept["kept"].shown
    assert kept["kept"].found == wilson(17, 18)
    lost = of_behaviour(
        *related, answers("clean", 18, 20, domain="general"), answers("corrupted", 2, 20, domain="general")
    )
    assert not lost["kept"].shown


def test_the_layer_from_which_on_answers_fail() -> None:
    rows = [answers("clean", 19, 20)]
    for layer, right in enumerate((19, 18, 6, 17, 5, 1)):
        rows.append(answers("patched", right, 20, f"L{layer}.resid_post"))
    made = of_behaviour(*rows)["answers_patched"]
    # Layer 2 fails too, but layer 3 above it does not.
    assert made.shown
    assert "from layer 4 on" in made.statement
    nothing = of_behaviour(
        answers("clean", 19, 20), *(answers("patched", 19, 20, f"L{i}.resid_post") for i in range(6))
    )
    assert not nothing["answers_patched"].shown
    repaired = [answers("corrupted", 1, 20)]
    for layer, right in enumerate((1, 2, 15, 19)):
        repaired.append(answers("repaired", right, 20, f"L{layer}.resid_post"))
    assert "from layer 2 on" in of_behaviour(*repaired)["answers_repaired"].statement


def test_the_last_layer_carries_no_claim_about_answers() -> None:
    rows = [answers("clean", 23, 24), answers("corrupted", 2, 24)]
    rows += [answers("patched", 23 if layer < 29 else 2, 24, f"L{layer}.resid_post") for layer in range(20, 30)]
    assert not of_behaviour(*rows)["answers_patched"].shown
    # As the last but one it would.
    assert of_behaviour(*rows, n_layers=31)["answers_patched"].shown


def test_texts_of_a_run_that_only_repairs_are_of_the_corrupted_model() -> None:
    rows = [answers("clean", 23, 24), answers("corrupted", 2, 24)]
    rows += [answers("patched", right, 24, f"L{layer}.resid_post") for layer, right in ((8, 2), (18, 20))]
    made = of_behaviour(*rows, n_layers=30, patched="repair")
    assert "answers_patched" not in made
    assert made["answers_repaired"].shown
    assert "the corrupted model has more right answers on related problems, from layer 18" in (
        made["answers_repaired"].statement
    )


def test_nothing_measured_is_nothing_claimed() -> None:
    assert claims(DEPTH.frame(), TOKENS.frame(), comparisons(BEHAVIOUR.frame())) == []
