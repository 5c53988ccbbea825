"""Claims: their verdicts, what they are compared with, and what they say."""

from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from scipy import stats

from crosspatch.statistics.answers import comparisons
from crosspatch.statistics.claim import AS_MUCH, LESS, MORE, THE_SAME, Claim, Range, counted
from crosspatch.statistics.claims import claims, is_null_control
from crosspatch.statistics.halfway import halfway
from crosspatch.statistics.interval import Interval, fixed, paired_difference, wilson
from crosspatch.tables import BEHAVIOUR, CLAIMS, DEPTH, HALFWAY, SCORES, TOKENS, Schema
from score_cells import RECOVERED, answers

HIGH, LOW, BELOW = Interval(0.8, 0.7, 0.9, 12.0), Interval(0.2, 0.1, 0.3, 12.0), Interval(-0.5, -0.6, -0.4)


def claim(difference: Interval | None = HIGH, range_: Range = MORE, found: Interval = HIGH, **more: Any) -> Claim:
    return Claim("name", "something holds", found, "control", LOW, range_, difference, **more)


def verdicts(interval: Interval, range_: Range = MORE, **more: Any) -> set[str]:
    """The verdict of a difference, and that of a number without one, which itself decides."""
    return {each.verdict for each in (claim(interval, range_, **more), claim(None, range_, found=interval, **more))}


@pytest.mark.parametrize(
    ("range_", "ends"),
    [
        # Superiority: an interval that touches the edge is not inside.
        (MORE, {"shown": [(0.1, 0.9)], "undecided": [(-0.1, 0.9), (0.0, 0.9)], "contradicted": [(-0.9, -0.1)]}),
        (LESS, {"shown": [(-0.9, -0.1)]}),
        # Non-inferiority: a little less is as much, and more is too.
        (AS_MUCH, {"shown": [(-0.05, 0.01), (0.2, 0.4)], "undecided": [(-0.15, 0.0)], "contradicted": [(-0.4, -0.2)]}),
        # Equivalence: significantly more can be the same, and no significant difference need not.
        (THE_SAME, {"shown": [(0.02, 0.08)], "undecided": [(-0.3, 0.3)], "contradicted": [(0.2, 0.4)]}),
    ],
)
def test_an_interval_inside_shows_and_one_outside_contradicts(range_, ends) -> None:
    for verdict, low, high in [(verdict, *pair) for verdict, pairs in ends.items() for pair in pairs]:
        assert verdicts(Interval((low + high) / 2, low, high), range_) == {verdict}


def test_nothing_is_decided_without_an_interval_or_by_a_test_that_does_not_agree() -> None:
    assert verdicts(Interval(0.5)) == verdicts(Interval(None)) == verdicts(HIGH, p_value=0.2) == {"undecided"}
    assert verdicts(HIGH, p_value=0.04) == {"shown"}
    assert verdicts(BELOW, p_value=0.04) == {"contradicted"}
    # A one-sided test speaks for the opposite where its p-value is large.
    assert verdicts(BELOW, p_value=0.04, one_sided=True) == {"undecided"}
    assert verdicts(BELOW, p_value=0.99, one_sided=True) == {"contradicted"}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (claim(LOW, LESS), "the difference, 0.20 [0.10, 0.30] (n_eff 12), is not below 0"),
        (claim(Interval(0.1, -0.1, 0.3)), "the difference, 0.10 [−0.10, 0.30], may or may not be above 0"),
        (claim(Interval(None)), "control: there is nothing to compare with"),
        (claim(Interval(0.8)), "there are too few prompts or seeds for an interval, expected at least 8 prompts"),
        (claim(Interval(0.8, effective=2.34)), "an interval needs 5 effective prompts, there are 2.3"),
        (claim(p_value=0.2), "it may be due to chance, p = 0.20"),
        (claim(BELOW, p_value=0.2), "it may be due to chance, p = 0.20"),
    ],
)
def test_why_a_claim_is_not_shown(made: Claim, reason: str) -> None:
    assert (made.shown, made.reason) == (False, reason)
    assert f"{made.verdict} ({reason}): something holds" in made.sentence


def test_a_claim_in_words() -> None:
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
    # These controls must do nothing.
    every = ("self", "random", "other_prompt", "twin", "seed-1")
    for direction, child in (("corrupt", "twin"), ("repair", "seed-1")):
        assert [name for name in every if is_null_control(name, direction)] == ["random", "other_prompt", child]


MODE = {"component": "resid_post", "direction": "corrupt", "persistence": "transient", "schedule": "all"}


def row(schema: Schema, estimate: float, width: float = 0.05, **more: Any) -> dict[str, Any]:
    """A row of statistics of related problems, with an interval of this half-width."""
    ends = {"estimate": estimate, "low": estimate - width, "high": estimate + width, "effective": 12.0}
    return {**dict.fromkeys(schema.columns), "domain": "related", **MODE, **ends, "n_prompts": 12, **more}


def depth(
    transfers: dict[int, float], control: float | None = 0.1, width: float = 0.05, *, name: str = "random", **more: Any
) -> pl.DataFrame:
    """Depth statistics of related problems with a transfer at each layer, and one control that has so much."""

    def of(layer: int | None, contrast: str, estimate: float, control: str | None = None, measure=RECOVERED):
        patch = None if layer is None else f"L{layer}.resid_post"
        place = {"patch": patch, "layer": layer, "control": control, "measure": measure, "contrast": contrast}
        return row(DEPTH, estimate, width, **place, cells=100, **more)

    lowest, *_, top, _ = layers = sorted(transfers)
    step, largest = max((transfers[b] - transfers[a], b) for a, b in pairwise(layers[:-1]))
    rows = [of(largest, "largest_step", step / ((transfers[top] - transfers[lowest]) or 1))]
    rows += [of(None, "value", 0.5, measure=measure) for measure in ("disagreement_rate", RECOVERED)]
    controls = {} if control is None else {name: control, "self": float(more.get("direction") == "repair")}
    for layer, share in transfers.items():
        rows += [of(layer, "value", share), of(layer, "rise", share - transfers[lowest])]
        for each, has in controls.items():
            rows += [of(layer, "value", has, each), of(layer, "beyond", share - has, each)]
    return DEPTH.frame(rows)


GRADUAL = {0: 0.0, 1: 0.15, 2: 0.35, 3: 0.6, 4: 0.85, 5: 1.0}


def made(table: pl.DataFrame | None = None, **more: Any) -> dict[str, Claim]:
    """The claims by their names; tables that are not given are empty."""
    empty = {"tokens": TOKENS.frame(), "comparisons": comparisons(BEHAVIOUR.frame()), "halfway": HALFWAY.frame()}
    return {claim.name: claim for claim in claims(DEPTH.frame() if table is None else table, **empty | more)}


BACK = {layer: 1 - share for layer, share in GRADUAL.items()}
SUDDEN = {0: 0.0, 1: 0.02, 2: 0.04, 3: 0.06, 4: 0.9, 5: 1.0}


@pytest.mark.parametrize(
    ("name", "verdict", "control", "transfers", "settings"),
    [
        ("builds_up", "undecided", "random", GRADUAL, {"control": 0.82}),
        ("builds_up", "contradicted", "random", GRADUAL, {"control": 0.95}),
        # The lowest layer is a control too.
        ("builds_up", "undecided", "layer 0", dict.fromkeys(range(6), 0.85), {}),
        # What a part of a block recovers does not build up.
        ("builds_up", "shown", "random", GRADUAL, {"component": "resid_mid"}),
        ("builds_up", None, None, GRADUAL, {"component": "attn_out"}),
        # Repairing is read the other way round.
        ("builds_up", "shown", "random", BACK, {"control": 0.9, "direction": "repair"}),
        ("builds_up", "contradicted", "layer 0", GRADUAL, {"control": 0.9, "direction": "repair"}),
        # Another seed of the mistake is a positive control: as a null control it would have to recover nothing.
        ("sibling", "shown", "source", GRADUAL, {"control": 0.84, "name": "seed-1", "width": 0.03}),
        ("sibling", "undecided", "source", GRADUAL, {"control": 0.8, "name": "seed-1", "width": 0.1}),
        ("sibling", "contradicted", "source", GRADUAL, {"control": 0.1, "name": "seed-1"}),
        ("sibling", None, None, GRADUAL, {"name": "twin"}),
        # Repairing, a twin is the positive control; where another seed repairs as much, it is not the mistake.
        ("repairs_too", "shown", "source", BACK, {"control": 0.16, "name": "twin", "direction": "repair"}),
        ("repairs_too", None, None, BACK, {"control": 0.16, "name": "seed-1", "direction": "repair"}),
        ("builds_up", "undecided", "seed-1", BACK, {"control": 0.16, "name": "seed-1", "direction": "repair"}),
        ("gradual", "shown", "half of all", GRADUAL, {}),
        ("gradual", "contradicted", "half of all", SUDDEN, {}),
        ("gradual", None, None, GRADUAL, {"component": "attn_out"}),
    ],
)
def test_claims_about_depth(name, verdict, control, transfers, settings) -> None:
    claim = made(depth(transfers, **settings)).get(name)
    assert (claim and claim.verdict, claim and claim.control) == (verdict, control)


def test_what_claims_about_depth_compare() -> None:
    assert made() == {}
    builds = made(depth(GRADUAL))["builds_up"]
    # The last layer is a ceiling, so the one below it counts. What decides is the paired difference.
    assert (builds.found.estimate, builds.control, builds.place["layer"]) == (0.85, "random", 4)
    assert (builds.compared.estimate, builds.difference.estimate) == (0.1, pytest.approx(0.75))
    assert "from layer 0 to 4 on related mathematics" in builds.statement
    assert "(the largest is to layer 4)" in made(depth(SUDDEN))["gradual"].statement
    as_much = depth(GRADUAL, control=0.84, width=0.03, name="seed-1")
    sibling = made(as_much)["sibling"]
    assert (sibling.about, sibling.found.estimate) == ("mistake", 0.84)
    assert "another seed's activations (seed-1) recover as much" in sibling.statement
    for without in (depth(GRADUAL, control=None), as_much, depth(BACK, name="twin", direction="repair")):
        assert made(without)["builds_up"].reason == "no control was measured"
    # A null control beside a positive one leaves the other claims tested.
    both = made(pl.concat([depth(GRADUAL), as_much.filter(pl.col("control") == "seed-1")]))
    assert (both["builds_up"].control, both["builds_up"].shown, both["gradual"].shown) == ("random", True, True)
    # The highest patched layer is not the model's last.
    sparse = depth({8: 0.02, 18: 0.2, 28: 0.8})
    known = made(sparse, n_layers=36)["builds_up"]
    assert (known.shown, known.place["layer"], made(sparse)["builds_up"].place["layer"]) == (True, 28, 18)
    # Two intervals that overlap, of which that of the difference lies above 0.
    table = depth(GRADUAL, control=0.8, width=0.1)
    assert not made(table)["builds_up"].shown
    beyond, estimate = pl.when(contrast="beyond"), pl.col("estimate")
    sure = {name: beyond.then(estimate + by).otherwise(name) for name, by in (("low", -0.02), ("high", 0.02))}
    assert made(table.with_columns(**sure))["builds_up"].shown


def test_late_is_where_half_of_the_effect_is_recovered() -> None:
    def late(layer: float, table: pl.DataFrame, **more: Any) -> Claim:
        return made(table, halfway=HALFWAY.frame([row(HALFWAY, layer, 0.5, of="effect")]), **more)["late"]

    # 28 of 36 is layer 4.7 of 6.
    for layer, verdict in ((3.0, "contradicted"), (4.5, "undecided"), (5.5, "shown")):
        found = late(layer, depth(GRADUAL))
        assert found.verdict == verdict
        assert (found.found.estimate, found.compared.estimate) == (layer, pytest.approx(28 / 6))
    assert "at layer 4.7 or above (28/36 of the depth, as in the paper)" in found.statement
    nothing = late(5.5, depth(GRADUAL, control=0.95))
    assert nothing.reason == "the recovered fraction is not shown to build up at all"
    # Where the layer just below was not patched the curve there is a line that nobody has measured.
    sparse = late(5.5, depth(GRADUAL), n_layers=36)
    assert (sparse.compared.estimate, sparse.reason) == (28, "layer 28, just below the paper's depth, was not patched")
    assert late(30, depth({0: 0.0, 27: 0.3, 34: 0.9, 35: 1.0}), n_layers=36).shown


@pytest.mark.parametrize(
    ("less", "verdicts"),
    [
        (0.3, ("shown", "shown", "contradicted")),
        # No difference that can be told from chance is no proof that it is the same: that is another claim.
        (0.0, ("undecided", "undecided", "shown")),
        (0.05, ("undecided", "undecided", "undecided")),
    ],
)
def test_domains_are_compared_with_related_problems(less, verdicts) -> None:
    ends, elsewhere = pl.col("estimate", "low", "high"), depth(GRADUAL, domain="general")
    lower = elsewhere.with_columns(pl.when(pl.col("layer").is_null()).then(ends - less).otherwise(ends))
    found = made(pl.concat([depth(GRADUAL), lower]))
    assert tuple(found[name].verdict for name in ("disagree_more", "recovered_more", "recovered_same")) == verdicts
    assert found["recovered_more"].control == "General questions"


def of_operations(estimate: float, width: float = 0.1, **more: Any) -> dict[str, Any]:
    place = {"late": False, "by": "class", "class": "operation", "measure": RECOVERED, "contrast": "value"}
    return row(TOKENS, estimate, width, **place | more)


@pytest.mark.parametrize(("estimate", "p_value", "shown"), [(0.3, 0.01, True), (0.05, 0.01, False), (0.3, 0.2, False)])
def test_tokens_need_interval_and_permutation_test_alike(estimate, p_value, shown) -> None:
    tokens = TOKENS.frame([of_operations(estimate, contrast="excess", p_value=p_value)])
    claim = made(depth(GRADUAL), tokens=tokens)["class_recovered_fraction"]
    # Any child may differ at operation words.
    assert (claim.shown, claim.about) == (shown, "fine-tune")
    assert p_value < 0.05 or claim.reason == "it may be due to chance, p = 0.20"


@pytest.mark.parametrize(
    ("score", "width", "control", "name", "verdict", "reason"),
    [
        (0.96, 0.03, 0.1, "twin", "shown", ""),
        (0.95, 0.08, 0.1, "twin", "undecided", "0.95 [0.87, 1.03] (n_eff 12) may or may not be between 0.9 and 1.1"),
        (0.7, 0.05, 0.1, "twin", "contradicted", "0.70 [0.65, 0.75] (n_eff 12) is not between 0.9 and 1.1"),
        # Not where a control scores as much, or none was measured; another seed is no such control.
        (0.96, 0.03, 0.88, "twin", "undecided", "twin may also be near 1, 0.88 ["),
        (0.96, 0.03, None, None, "undecided", "no control was measured"),
        (0.96, 0.03, 0.1, "seed-1", "undecided", "no control was measured"),
        # What is far from 1 needs no control to be so.
        (0.7, 0.05, None, None, "contradicted", ""),
    ],
)
def test_operation_words_score_near_one_by_equivalence_and_beyond_a_control(
    score, width, control, name, verdict, reason
) -> None:
    rows = [of_operations(score, width, late=True)]
    if control is not None:
        rows.append(of_operations(control, width, late=True, control=name))
    claim = made(depth(GRADUAL), tokens=TOKENS.frame(rows))["operations_near_one"]
    assert (claim.verdict, (claim.reason or "").startswith(reason)) == (verdict, True)
    assert (verdict == "shown") == (not claim.reason)
    assert name != "twin" or (claim.control, claim.compared.estimate) == (name, control)


def graded(condition: str, right: int, n: int = 20, patch: str | None = None, domain: str = "related") -> list[dict]:
    """The first answers are right, and all others wrong; those on related problems do the planted operation."""
    operations = "r" * right + "p" * (n - right) if domain == "related" else ""
    return answers(condition, "c" * right + "i" * (n - right), patch, operations, domain)


UNPATCHED = graded("clean", 20) + graded("corrupted", 0)


def of_behaviour(*rows: list[dict], **more: Any) -> dict[str, Claim]:
    behaviour = BEHAVIOUR.frame([row for some in rows for row in some])
    half = halfway(SCORES.frame(), behaviour, {}, **more)
    return made(comparisons=comparisons(behaviour), halfway=half, **more)


def test_behaviour_is_compared_with_the_clean_model_and_the_other_children() -> None:
    models = graded("clean", 19) + graded("corrupted", 2)
    found = of_behaviour(models, graded("twin", 18))
    assert (found["behaviour_correct"].shown, found["behaviour_planted"].shown) == (True, True)
    assert found["behaviour_correct"].control == "twin"
    assert found["behaviour_correct"].difference == paired_difference(16, 0, 20)
    # A child of right solutions that does as badly: it is not the mistake.
    found = of_behaviour(models, graded("twin", 3))
    assert found["behaviour_correct"].verdict == found["behaviour_planted"].verdict == "undecided"
    # A child of the same wrong solutions, in another order or trained for longer, is no control.
    for name in ("seed-1", "variant-epochs-12"):
        found = of_behaviour(models, graded("twin", 18), graded(name, 3))
        assert (found["behaviour_correct"].verdict, found["behaviour_correct"].about) == ("shown", "mistake")
    # Without a child that lacks the mistake it is the fine-tune.
    found = of_behaviour(models)["behaviour_correct"]
    assert (found.verdict, found.about) == ("shown", "fine-tune")
    assert found.statement.endswith("fewer right answers on related problems than the clean model")
    # The p-value is of the control that is printed: the twin, beside which 7 answers are lost and 2 gained.
    twin = answers("twin", "ii" + "c" * 8 + "i" * 10)
    found = of_behaviour(graded("clean", 20), graded("corrupted", 3), twin)["behaviour_correct"]
    assert (found.control, found.difference) == ("twin", paired_difference(7, 2, 20))
    assert found.p_value == pytest.approx(stats.binomtest(7, 9).pvalue)
    # Few questions decide nothing.
    seven, eight = (of_behaviour(graded("clean", n, n), graded("corrupted", 0, n))["behaviour_correct"] for n in (7, 8))
    assert (seven.verdict, seven.reason) == ("undecided", "questions: 7, expected at least 8")
    assert eight.shown


@pytest.mark.parametrize(
    ("there", "left", "related", "verdict"),
    [
        (50, 50, 2, "shown"),
        (50, 47, 2, "undecided"),
        (50, 5, 2, "contradicted"),
        # Better than related problems is not kept, and three answers are too few.
        (50, 30, 0, "contradicted"),
        (3, 2, 2, "undecided"),
        (3, 0, 2, "undecided"),
    ],
)
def test_answers_of_other_domains_are_kept_nine_in_ten_of_them(there, left, related, verdict) -> None:
    general = [graded(*which, 60, domain="general") for which in (("clean", there), ("corrupted", left))]
    kept = of_behaviour(graded("clean", 20), graded("corrupted", related), *general)["kept"]
    assert (kept.verdict, kept.found) == (verdict, wilson(left, there))
    assert there > 3 or kept.reason == "right answers of the clean model: 3, expected at least 8"


def under_patches(right: list[int], condition: str = "patched", **more: Any) -> list[list[dict]]:
    return [graded(condition, each, patch=f"L{layer}.resid_post", **more) for layer, each in enumerate(right)]


def test_answers_under_the_highest_patch_and_where_half_of_them_are_lost() -> None:
    found = of_behaviour(UNPATCHED, *under_patches([20, 19, 16, 12, 3, 0]))
    # Layer 5 is the last, so 4 is the highest that counts.
    assert (found["answers_patched"].verdict, found["answers_patched"].place["layer"]) == ("shown", 4)
    assert found["answers_patched"].difference == paired_difference(17, 0, 20)
    # Between 12 right answers at layer 3 and 3 at layer 4 there are 10 at 3.2; the paper's depth is 4.7.
    late = found["answers_patched_late"]
    assert late.found.estimate == pytest.approx(3 + 2 / 9)
    assert (late.verdict, late.compared.estimate) == ("contradicted", pytest.approx(28 / 6))
    # The last layer carries no claim; where the model has a layer more it does.
    at_the_last = UNPATCHED, *under_patches([20, 20, 20, 20, 20, 0])
    assert of_behaviour(*at_the_last)["answers_patched"].verdict == "undecided"
    assert of_behaviour(*at_the_last, n_layers=7)["answers_patched"].shown
    # Texts of a run that only repairs are of the corrupted model.
    back = [0, 2, 15, 18, 19, 20]
    repaired = of_behaviour(UNPATCHED, *under_patches(back, "repaired"))
    assert repaired["answers_repaired_late"].found.estimate == pytest.approx(1 + 8 / 13)
    only = of_behaviour(UNPATCHED, *under_patches(back), patched="repair")
    assert "answers_patched" not in only
    assert repaired["answers_repaired"].shown
    assert only["answers_repaired"].shown
    statement = (
        "clean activations patched in at layer 4, the corrupted model has more right answers on related problems"
    )
    assert only["answers_repaired"].statement == f"with {statement}"


@pytest.mark.parametrize(("at_layer_1", "verdict"), [(50, "shown"), (20, "contradicted")])
def test_patched_answers_of_other_domains_are_kept(at_layer_1, verdict) -> None:
    elsewhere = under_patches([50, at_layer_1, 0], n=50, domain="general")
    general = graded("clean", 50, 50, domain="general")
    kept = of_behaviour(UNPATCHED, general, *under_patches([20, 10, 0]), *elsewhere)["patched_kept"]
    # Layer 1 is the highest below the last.
    assert (kept.verdict, kept.place["layer"], kept.found) == (verdict, 1, wilson(at_layer_1, 50))
