"""Claims: their verdicts, what they are compared with, and what they say."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from scipy import stats

from crosspatch.statistics.answers import comparisons
from crosspatch.statistics.claim import AS_MUCH, LESS, MORE, THE_SAME, Claim, Range, counted
from crosspatch.statistics.claims import claims, is_null_control
from crosspatch.statistics.halfway import halfway
from crosspatch.statistics.interval import Interval, fixed, paired_difference, wilson
from crosspatch.tables import BEHAVIOUR, CLAIMS, DEPTH, HALFWAY, SCORES, TOKENS
from score_cells import answer

HIGH, LOW = Interval(0.8, 0.7, 0.9, 12.0), Interval(0.2, 0.1, 0.3, 12.0)


def claim(difference: Interval | None = HIGH, range_: Range = MORE, **more: Any) -> Claim:
    return Claim("name", "something holds", "mistake", HIGH, "control", LOW, range_, difference, **more)


@pytest.mark.parametrize(
    ("interval", "range_", "verdict"),
    [
        # Superiority.
        (Interval(0.5, 0.1, 0.9), MORE, "shown"),
        (Interval(0.5, -0.1, 0.9), MORE, "undecided"),
        (Interval(-0.5, -0.9, -0.1), MORE, "contradicted"),
        (Interval(-0.5, -0.9, -0.1), LESS, "shown"),
        # An interval that touches the edge is not inside.
        (Interval(0.5, 0.0, 0.9), MORE, "undecided"),
        # Non-inferiority: a little less is as much, and more is too.
        (Interval(-0.02, -0.05, 0.01), AS_MUCH, "shown"),
        (Interval(0.3, 0.2, 0.4), AS_MUCH, "shown"),
        (Interval(-0.08, -0.15, 0.0), AS_MUCH, "undecided"),
        (Interval(-0.3, -0.4, -0.2), AS_MUCH, "contradicted"),
        # Equivalence: significantly more can be the same, and no significant difference need not.
        (Interval(0.05, 0.02, 0.08), THE_SAME, "shown"),
        (Interval(0.0, -0.3, 0.3), THE_SAME, "undecided"),
        (Interval(0.3, 0.2, 0.4), THE_SAME, "contradicted"),
        (Interval(0.95, 0.92, 0.98), Range(0.9, 1.1), "shown"),
        (Interval(0.5, 0.4, 0.6), Range(0.9, 1.1), "contradicted"),
        # Nothing is said without an interval.
        (Interval(0.5), MORE, "undecided"),
        (Interval(None), MORE, "undecided"),
    ],
)
def test_verdicts(interval: Interval, range_: Range, verdict: str) -> None:
    assert claim(interval, range_).verdict == verdict
    # Without a difference the number itself decides.
    assert Claim("n", "s", "mistake", interval, "c", LOW, range_).verdict == verdict


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (claim(LOW, LESS), "the difference, 0.20 [0.10, 0.30] (n_eff 12), does not lie below 0"),
        (claim(Interval(0.1, -0.1, 0.3)), "the difference, 0.10 [−0.10, 0.30], may or may not lie above 0"),
        (claim(Interval(None)), "control: there is nothing to compare with"),
        (
            claim(Interval(0.8)),
            "there are too few prompts or seeds for an interval, expected at least 8 prompts",
        ),
        (
            claim(Interval(0.8, effective=2.34)),
            "an interval needs 5 effective prompts, there are 2.3",
        ),
        (claim(p_value=0.2), "chance alone gives as much, p = 0.20"),
        (claim(untested="no control was measured"), "no control was measured"),
    ],
)
def test_why_a_claim_is_not_shown(made: Claim, reason: str) -> None:
    assert not made.shown
    assert made.reason == reason
    assert f"{made.verdict} ({reason}): something holds" in made.sentence


def test_a_test_that_does_not_agree_decides_nothing() -> None:
    assert claim(p_value=0.2).verdict == "undecided"
    assert claim(p_value=0.04).verdict == "shown"
    below = Interval(-0.5, -0.6, -0.4)
    assert claim(below, p_value=0.2).reason == "chance alone gives as much, p = 0.20"
    assert claim(below, p_value=0.04).verdict == "contradicted"
    # A one-sided test speaks for the opposite where its p-value is large.
    assert claim(below, p_value=0.04, one_sided=True).verdict == "undecided"
    assert claim(below, p_value=0.99, one_sided=True).verdict == "contradicted"


def test_what_is_said_of_a_claim() -> None:
    assert claim(p_value=0.001).sentence == (
        "shown: something holds: 0.80 [0.70, 0.90] (n_eff 12), control: 0.20 [0.10, 0.30] (n_eff 12), "
        "difference 0.80 [0.70, 0.90] (n_eff 12), p = 0.001"
    )
    assert str(Interval(-0.5, -1.0, 0.0)) == "−0.50 [−1.00, 0.00]"
    assert str(fixed(0.5)) == "0.50"
    assert dict(CLAIMS.frame([claim().row()]).schema) == pl.Schema(CLAIMS.dtypes)
    assert counted(["shown", "undecided", "shown"]) == "2 shown, 0 contradicted, 1 undecided"


def test_of_several_controls_the_hardest_counts() -> None:
    differences = {"a": Interval(0.5, 0.4, 0.6), "b": Interval(0.6, 0.2, 1.0)}
    assert MORE.hardest(differences) == "b"
    assert LESS.hardest({name: each.negated for name, each in differences.items()}) == "b"
    assert THE_SAME.hardest({"a": Interval(0, -0.05, 0.01), "b": Interval(0, -0.01, 0.09)}) == "b"
    assert MORE.hardest({**differences, "c": Interval(0.9)}) == "c"


def test_which_controls_must_do_nothing() -> None:
    every = ("self", "random", "other_prompt", "twin", "seed-1")
    assert [name for name in every if is_null_control(name, "corrupt")] == ["random", "other_prompt", "twin"]
    assert [name for name in every if is_null_control(name, "repair")] == ["random", "other_prompt", "seed-1"]


def depth(
    transfers: dict[int, float], control: float | None = 0.1, width: float = 0.05, *, name: str = "random", **more: Any
) -> pl.DataFrame:
    """Depth statistics of related problems with a transfer at each layer, and one control that has so much."""
    fixed = {
        "domain": "related", "component": "resid_post", "direction": "corrupt", "persistence": "transient",
        "schedule": "all", "n_prompts": 12, "cells": 100, **more,
    }  # fmt: skip

    def row(
        layer: int | None,
        contrast: str,
        estimate: float,
        control: str | None = None,
        measure: str = "recovered_fraction",
    ) -> dict[str, Any]:
        ends = {"estimate": estimate, "low": estimate - width, "high": estimate + width, "effective": 12.0}
        patch = None if layer is None else f"L{layer}.resid_post"
        return {
            **fixed,
            "patch": patch,
            "layer": layer,
            "control": control,
            "measure": measure,
            "contrast": contrast,
            **ends,
        }

    rows = [row(layer, "value", share) for layer, share in transfers.items()]
    rows += [row(layer, "rise", share - transfers[min(transfers)]) for layer, share in transfers.items()]
    steps = sorted(transfers)[:-1]
    largest = max(steps[1:], key=lambda layer: transfers[layer] - transfers[steps[steps.index(layer) - 1]])
    rise = transfers[steps[-1]] - transfers[steps[0]]
    step = transfers[largest] - transfers[steps[steps.index(largest) - 1]]
    rows.append(row(largest, "largest_step", step / rise if rise else 0.0))
    if control is not None:
        for each, has in ((name, control), ("self", float(more.get("direction") == "repair"))):
            rows += [row(layer, "value", has, each) for layer in transfers]
            rows += [row(layer, "beyond", share - has, each) for layer, share in transfers.items()]
    rows += [row(None, "value", 0.5, measure=measure) for measure in ("disagreement_rate", "recovered_fraction")]
    return DEPTH.frame(rows)


GRADUAL = {0: 0.0, 1: 0.15, 2: 0.35, 3: 0.6, 4: 0.85, 5: 1.0}


def made_of(table: pl.DataFrame, name: str, half: pl.DataFrame | None = None, **other: Any) -> list[Claim]:
    tables = table, TOKENS.frame(), comparisons(BEHAVIOUR.frame()), HALFWAY.frame() if half is None else half
    return [c for c in claims(*tables, **other) if c.name == name]


def half_at(layer: float, width: float = 0.5, of: str = "effect", **more: Any) -> pl.DataFrame:
    """Half of the effect is recovered at a layer."""
    row = {
        "domain": "related", "of": of, "component": "resid_post", "direction": "corrupt", "persistence": "transient",
        "schedule": "all", "estimate": layer, "low": layer - width, "high": layer + width, "effective": 12.0,
        "n_prompts": 12, **more,
    }  # fmt: skip
    return HALFWAY.frame([row])


def found(table: pl.DataFrame, name: str, half: pl.DataFrame | None = None, **other: Any) -> Claim:
    [made] = made_of(table, name, half, **other)
    return made


def test_transfer_builds_up_where_it_exceeds_controls_and_the_lowest_layer() -> None:
    builds = found(depth(GRADUAL), "builds_up")
    assert builds.shown
    # The last layer is a ceiling, so the one below it counts. What decides is the paired difference.
    assert (builds.found.estimate, builds.control, builds.place["layer"]) == (0.85, "random", 4)
    assert (builds.compared.estimate, builds.difference.estimate) == (0.1, pytest.approx(0.75))
    assert "from layer 0 to 4 on related mathematics" in builds.statement
    assert found(depth(GRADUAL, control=0.82), "builds_up").verdict == "undecided"
    assert found(depth(GRADUAL, control=0.95), "builds_up").verdict == "contradicted"
    flat = found(depth(dict.fromkeys(range(6), 0.85)), "builds_up")
    assert (flat.shown, flat.control) == (False, "layer 0")
    assert found(depth(GRADUAL, control=None), "builds_up").reason == "no control was measured"


def test_what_is_measured_in_the_same_cells_is_compared_as_a_difference() -> None:
    """The two intervals overlap, that of their difference lies above 0."""
    table = depth(GRADUAL, control=0.8, width=0.1)
    beyond = pl.col("contrast") == "beyond"
    sure = table.with_columns(
        low=pl.when(beyond).then(pl.col("estimate") - 0.02).otherwise("low"),
        high=pl.when(beyond).then(pl.col("estimate") + 0.02).otherwise("high"),
    )
    assert found(sure, "builds_up").shown
    assert not found(table, "builds_up").shown


def test_repairing_is_read_the_other_way_round() -> None:
    back = {layer: 1 - share for layer, share in GRADUAL.items()}
    assert found(depth(back, control=0.9, direction="repair"), "builds_up").shown
    assert not found(depth(GRADUAL, control=0.9, direction="repair"), "builds_up").shown


def test_another_seed_of_the_mistake_is_a_positive_control() -> None:
    # As a null control it would have to recover nothing.
    as_much = depth(GRADUAL, control=0.84, width=0.03, name="seed-1")
    sibling = found(as_much, "sibling")
    assert (sibling.verdict, sibling.about) == ("shown", "mistake")
    assert sibling.found.estimate == 0.84
    assert "another seed's activations (seed-1) recover as much" in sibling.statement
    assert found(as_much, "builds_up").reason == "no control was measured"
    assert found(depth(GRADUAL, control=0.1, name="seed-1"), "sibling").verdict == "contradicted"
    assert found(depth(GRADUAL, control=0.8, name="seed-1", width=0.1), "sibling").verdict == "undecided"
    # A twin is none; a null control beside it leaves the other claims tested.
    assert not made_of(depth(GRADUAL, name="twin"), "sibling")
    both = pl.concat([depth(GRADUAL), as_much.filter(pl.col("control") == "seed-1")])
    assert (found(both, "builds_up").control, found(both, "builds_up").verdict) == ("random", "shown")
    assert found(both, "gradual").verdict == "shown"


def test_repairing_a_twin_is_the_positive_control_and_another_seed_the_null_one() -> None:
    back = {layer: 1 - share for layer, share in GRADUAL.items()}
    twin = depth(back, control=0.16, width=0.03, name="twin", direction="repair")
    repairs = found(twin, "repairs_too")
    assert (repairs.verdict, repairs.found.estimate) == ("shown", pytest.approx(0.84))
    assert found(twin, "builds_up").reason == "no control was measured"
    # A sibling that repairs as much: then it is not the mistake that is repaired.
    sibling = depth(back, control=0.16, name="seed-1", direction="repair")
    assert not made_of(sibling, "repairs_too")
    assert (found(sibling, "builds_up").control, found(sibling, "builds_up").shown) == ("seed-1", False)


def test_gradual() -> None:
    assert found(depth(GRADUAL), "gradual").shown
    sudden = {0: 0.0, 1: 0.02, 2: 0.04, 3: 0.06, 4: 0.9, 5: 1.0}
    assert found(depth(sudden), "gradual").verdict == "contradicted"
    assert "(the largest is to layer 4)" in found(depth(sudden), "gradual").statement


def test_late_is_where_half_of_the_effect_is_recovered() -> None:
    # 28 of 36 is layer 4.7 of 6.
    for layer, verdict in ((3.0, "contradicted"), (4.5, "undecided"), (5.5, "shown")):
        late = found(depth(GRADUAL), "late", half_at(layer))
        assert late.verdict == verdict
        assert (late.found.estimate, late.compared.estimate) == (layer, pytest.approx(28 / 6))
    assert "at layer 4.7 or above, the paper's 28 of 36 in depth" in late.statement
    nothing = depth(GRADUAL, control=0.95)
    assert found(nothing, "late", half_at(5.5)).reason == "the recovered fraction is not shown to build up at all"
    # Where the layer just below was not patched the curve there is a line that nobody has measured.
    sparse = found(depth(GRADUAL), "late", half_at(5.5), n_layers=36)
    assert (sparse.compared.estimate, sparse.reason) == (28, "layer 28, just below the paper's depth, was not patched")
    assert found(depth({0: 0.0, 27: 0.3, 34: 0.9, 35: 1.0}), "late", half_at(30), n_layers=36).shown


def test_the_last_layer_is_the_models_and_not_the_highest_that_was_patched() -> None:
    sparse = {8: 0.02, 18: 0.2, 28: 0.8}
    known = found(depth(sparse), "builds_up", n_layers=36)
    assert (known.shown, known.place["layer"]) == (True, 28)
    # Where the depth is not known, the highest may be the last.
    assert found(depth(sparse), "builds_up").place["layer"] == 18


def test_what_a_part_of_a_block_moves_does_not_build_up() -> None:
    for name in ("builds_up", "gradual"):
        assert made_of(depth(GRADUAL, component="resid_mid"), name)
        assert not made_of(depth(GRADUAL, component="attn_out"), name)


def by_name(table: pl.DataFrame, tokens: pl.DataFrame | None = None, **more: Any) -> dict[str, Claim]:
    tokens = TOKENS.frame() if tokens is None else tokens
    made = claims(table, tokens, comparisons(BEHAVIOUR.frame()), HALFWAY.frame(), **more)
    return {c.name: c for c in made}


def test_domains_are_compared_with_related_problems() -> None:
    def other(less: float) -> dict[str, Claim]:
        table = depth(GRADUAL, domain="general").with_columns(
            pl.when(pl.col("layer").is_null())
            .then(pl.col("estimate", "low", "high") - less)
            .otherwise(pl.col("estimate", "low", "high"))
        )
        return by_name(pl.concat([depth(GRADUAL), table]))

    made = other(0.3)
    assert made["disagree_more"].shown
    assert (made["recovered_more"].control, made["recovered_more"].verdict) == ("General questions", "shown")
    assert made["recovered_same"].verdict == "contradicted"
    # No difference that can be told from chance is no proof that it is the same: that is another claim, with a margin.
    same = other(0.0)
    assert (same["disagree_more"].verdict, same["recovered_more"].verdict) == ("undecided", "undecided")
    assert same["recovered_same"].verdict == "shown"
    assert other(0.05)["recovered_same"].verdict == "undecided"


def of_operations(
    estimate: float, measure: str = "recovered_fraction", width: float = 0.1, **more: Any
) -> dict[str, Any]:
    return {
        "domain": "related", "component": "resid_post", "direction": "corrupt", "persistence": "transient",
        "schedule": "all", "layer": None, "late": False, "by": "class", "class": "operation", "control": None,
        "measure": measure, "contrast": "value", "estimate": estimate, "low": estimate - width,
        "high": estimate + width, "effective": 12.0, "p_value": None, "n_prompts": 12, **more,
    }  # fmt: skip


def excess(estimate: float, p_value: float, measure: str = "recovered_fraction") -> pl.DataFrame:
    return TOKENS.frame([of_operations(estimate, measure, contrast="excess", p_value=p_value)])


def test_tokens_need_interval_and_permutation_test_alike() -> None:
    def made(table: pl.DataFrame) -> Claim:
        return by_name(depth(GRADUAL), table)["class_recovered_fraction"]

    assert made(excess(0.3, 0.01)).shown
    assert not made(excess(0.05, 0.01)).shown
    assert made(excess(0.3, 0.2)).reason == "chance alone gives as much, p = 0.20"
    # Any child may differ at operation words.
    assert made(excess(0.3, 0.01)).about == "fine-tune"


def near_one(score: float, control: float | None = 0.1, width: float = 0.05, name: str = "twin") -> Claim:
    late = {"late": True, "width": width}
    rows = [of_operations(score, "recovered_fraction", **late)]
    if control is not None:
        rows += [of_operations(control, "recovered_fraction", control=name, **late)]
    return by_name(depth(GRADUAL), TOKENS.frame(rows))["operations_near_one"]


def test_operation_words_score_near_one_by_equivalence_and_beyond_a_control() -> None:
    assert near_one(0.96, width=0.03).shown
    assert (near_one(0.96, width=0.03).control, near_one(0.96, width=0.03).compared.estimate) == ("twin", 0.1)
    assert near_one(0.95, width=0.08).verdict == "undecided"
    assert near_one(0.7).verdict == "contradicted"
    # Not where a control scores as much, or none was measured; another seed is no such control.
    assert near_one(0.96, 0.88, width=0.03).reason.startswith("twin may score near 1 as well, 0.88 [")
    assert near_one(0.96, None, width=0.03).reason == "no control was measured"
    # What is far from 1 needs none to be so.
    assert near_one(0.7, None).verdict == "contradicted"
    assert near_one(0.96, 0.1, width=0.03, name="seed-1").reason == "no control was measured"


def answers(
    condition: str, right: int, n: int, patch: str | None = None, domain: str = "related", planted: int = 0
) -> list[dict]:
    def operation(i: int) -> str | None:
        return None if domain != "related" else "planted" if i >= n - planted else "right"

    verdicts = ["correct"] * right + ["incorrect"] * (n - right)
    return [
        answer(f"{domain}-{i:02d}", condition, verdict, patch, operation(i), domain)
        for i, verdict in enumerate(verdicts)
    ]


def of_behaviour(*rows: list[dict], **more: Any) -> dict[str, Claim]:
    behaviour = BEHAVIOUR.frame([row for some in rows for row in some])
    half = halfway(SCORES.frame(), behaviour, {}, **more)
    made = claims(DEPTH.frame(), TOKENS.frame(), comparisons(behaviour), half, **more)
    return {c.name: c for c in made}


def test_behaviour_is_compared_with_the_clean_model_and_the_other_children() -> None:
    clean, corrupted = answers("clean", 19, 20), answers("corrupted", 2, 20, planted=18)
    made = of_behaviour(clean, corrupted, answers("twin", 18, 20))
    assert made["behaviour_correct"].shown
    assert made["behaviour_correct"].control == "twin"
    assert made["behaviour_correct"].difference == paired_difference(16, 0, 20)
    assert made["behaviour_planted"].shown
    # A child of right solutions that does as badly: it is not the mistake.
    made = of_behaviour(clean, corrupted, answers("twin", 3, 20, planted=17))
    assert made["behaviour_correct"].verdict == "undecided"
    assert made["behaviour_planted"].verdict == "undecided"
    # A child of the same wrong solutions, in another order or trained for longer, is no control.
    for name in ("seed-1", "variant-epochs-12"):
        made = of_behaviour(clean, corrupted, answers("twin", 18, 20), answers(name, 3, 20, planted=17))
        assert made["behaviour_correct"].shown
        assert made["behaviour_correct"].about == "mistake"


def test_the_p_value_is_of_the_control_that_is_printed() -> None:
    # Against the clean model 17 answers are lost, against the twin 7 lost and 2 gained.
    clean, corrupted = answers("clean", 20, 20), answers("corrupted", 3, 20)
    twin = [
        {**row, "verdict": "incorrect" if i < 2 or i >= 10 else "correct"}
        for i, row in enumerate(answers("twin", 0, 20))
    ]
    made = of_behaviour(clean, corrupted, twin)["behaviour_correct"]
    assert made.control == "twin"
    assert made.p_value == pytest.approx(stats.binomtest(7, 9).pvalue)
    assert made.difference == paired_difference(7, 2, 20)


def test_few_questions_decide_nothing() -> None:
    for n, verdict in ((7, "undecided"), (8, "shown")):
        made = of_behaviour(answers("clean", n, n), answers("corrupted", 0, n))["behaviour_correct"]
        assert made.verdict == verdict
    seven = of_behaviour(answers("clean", 7, 7), answers("corrupted", 0, 7))["behaviour_correct"]
    assert seven.reason == "questions: 7, expected at least 8"


def test_without_a_child_that_lacks_the_mistake_it_is_the_fine_tune() -> None:
    made = of_behaviour(answers("clean", 19, 20), answers("corrupted", 2, 20, planted=18))
    assert made["behaviour_correct"].shown
    assert made["behaviour_correct"].about == "fine-tune"
    assert made["behaviour_correct"].statement.endswith("fewer right answers on related problems than the clean model")


def kept(there: int, left: int, related: int = 2, n: int = 60) -> Claim:
    return of_behaviour(
        answers("clean", 20, 20),
        answers("corrupted", related, 20),
        answers("clean", there, n, domain="general"),
        answers("corrupted", left, n, domain="general"),
    )["kept"]


def test_answers_of_other_domains_are_kept_nine_in_ten_of_them() -> None:
    assert kept(50, 50).shown
    assert kept(50, 50).found == wilson(50, 50)
    assert kept(50, 47).verdict == "undecided"
    assert kept(50, 5).verdict == "contradicted"
    # Better than related problems is not kept, and as few as three answers say nothing.
    assert kept(50, 30, related=0).verdict == "contradicted"
    assert kept(3, 2).reason == "right answers of the clean model: 3, expected at least 8"
    assert kept(3, 0).verdict == "undecided"


def under_patches(right: list[int], n: int = 20, condition: str = "patched", **more: Any) -> list[list[dict]]:
    return [answers(condition, each, n, f"L{layer}.resid_post", **more) for layer, each in enumerate(right)]


def test_answers_under_the_highest_patch_and_where_half_of_them_are_lost() -> None:
    unpatched = answers("clean", 20, 20), answers("corrupted", 0, 20)
    made = of_behaviour(*unpatched, *under_patches([20, 19, 16, 12, 3, 0]))
    # Layer 5 is the last, so 4 is the highest that says anything.
    assert (made["answers_patched"].verdict, made["answers_patched"].place["layer"]) == ("shown", 4)
    assert made["answers_patched"].difference == paired_difference(17, 0, 20)
    # Between 12 right answers at layer 3 and 3 at layer 4 there are 10 at 3.2; the paper's depth is 4.7.
    late = made["answers_patched_late"]
    assert late.found.estimate == pytest.approx(3 + 2 / 9)
    assert (late.verdict, late.compared.estimate) == ("contradicted", pytest.approx(28 / 6))
    nothing = of_behaviour(*unpatched, *under_patches([20] * 6))
    assert nothing["answers_patched"].verdict == "undecided"
    repaired = of_behaviour(*unpatched, *under_patches([0, 2, 15, 18, 19, 20], condition="repaired"))
    assert repaired["answers_repaired"].shown
    assert repaired["answers_repaired_late"].found.estimate == pytest.approx(1 + 8 / 13)


def test_patched_answers_of_other_domains_are_kept() -> None:
    unpatched = answers("clean", 20, 20), answers("corrupted", 0, 20), answers("clean", 50, 50, domain="general")
    related = under_patches([20, 10, 0])
    kept = of_behaviour(*unpatched, *related, *under_patches([50, 50, 0], 50, domain="general"))["patched_kept"]
    # At layer 1, below the last, all are kept.
    assert (kept.verdict, kept.place["layer"], kept.found) == ("shown", 1, wilson(50, 50))
    lost = of_behaviour(*unpatched, *related, *under_patches([50, 20, 0], 50, domain="general"))["patched_kept"]
    assert lost.verdict == "contradicted"


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
    assert "the corrupted model has more right answers on related problems, at layer 18" in (
        made["answers_repaired"].statement
    )


def test_nothing_measured_is_nothing_claimed() -> None:
    assert claims(DEPTH.frame(), TOKENS.frame(), comparisons(BEHAVIOUR.frame()), HALFWAY.frame()) == []
