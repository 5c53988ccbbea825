"""Summaries of the lenses, on numbers worked out by hand."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from crosspatch.statistics import lenses
from crosspatch.tables import ACTIVATIONS, BEHAVIOUR, LOGIT_LENS, WEIGHTS, Schema
from score_cells import DOMAINS, PROMPTS, answer, answers


def table(schema: Schema, columns: tuple[str, ...], *rows: tuple, **same: Any) -> pl.DataFrame:
    """Rows with these columns, and columns that are the same in all rows; others are null."""
    empty = {**dict.fromkeys(schema.columns), **same}
    return schema.frame({**empty, **dict(zip(columns, row, strict=True))} for row in rows)


def test_weights_are_summed_as_squares():
    names = ("child", "layer", "name", "clean_norm", "delta_norm", "effective_rank")
    found = table(
        WEIGHTS,
        names,
        ("corrupted", None, "embed", 100, 50, 4.0),
        ("corrupted", 0, "q", 3, 3, 8.0),
        ("corrupted", 0, "o", 4, 4, 4.0),
        ("corrupted", 1, "q", 6, 0, None),
        ("corrupted", 1, "o", 8, 12, 4.0),
        ("twin", 0, "q", 3, 0, None),
        ("twin", 0, "o", 4, 0, None),
    )
    columns = ("child", "layer", "delta_norm", "clean_norm", "ratio", "share", "effective_rank")
    # The embedding is in no block, and a matrix that did not move has no rank.
    assert lenses.weights_by(found, "layer").select(columns).rows() == [
        ("corrupted", 0, 5, 5, 1, 25 / 169, 6),
        ("corrupted", 1, 12, 10, 1.2, 144 / 169, 4),
        ("twin", 0, 0, 5, 0, None, None),
    ]
    names = lenses.weights_by(found, "name").filter(child="corrupted")
    assert names.select("name", "delta_norm").rows() == [("q", 3), ("o", pytest.approx(math.hypot(4, 12)))]
    assert lenses.weights_by(found, "layer", "name").height == 6
    assert lenses.weights_by(WEIGHTS.frame(), "layer").is_empty()


def activations(*rows: tuple) -> pl.DataFrame:
    names = ("child", "prompt_id", "steps", "delta_norm", "clean_norm", "alignment")
    same = {"component": "resid_post", "layer": 3, "at": "all", "cosine": 0.5}
    return table(ACTIVATIONS, names, *rows, **same)


def test_activations_are_ratios_of_sums_with_intervals():
    frame = activations(
        *(("corrupted", prompt, 1 + i, 2.0 + i % 3, 10.0, 0.2) for i, prompt in enumerate(PROMPTS)),
        *(("twin", prompt, 4, 1.0, 10.0, None) for prompt in PROMPTS),
        ("corrupted", "g", 4, 1.0, 4.0, 1.0),
    )
    found = lenses.activation_statistics(frame, DOMAINS)
    rows = {(row["domain"], row["child"], row["measure"]): row for row in found.to_dicts()}
    size = rows["related", "corrupted", "relative_norm"]
    assert size["estimate"] == pytest.approx(sum((1 + i) * (2.0 + i % 3) for i in range(10)) / (10 * sum(range(11))))
    assert size["low"] < size["estimate"] < size["high"]
    assert size["n_prompts"] == 10
    alike = rows["related", "corrupted", "alignment"]
    assert [alike[name] for name in ("estimate", "low", "high")] == pytest.approx([0.2, 0.2, 0.2])
    # Nothing to align, so there is no estimate; nor with a single prompt an interval.
    assert rows["related", "twin", "alignment"]["estimate"] is None
    assert rows["related", "twin", "relative_norm"]["estimate"] == pytest.approx(0.1)
    general = rows["general", "corrupted", "relative_norm"]
    assert (general["estimate"], general["low"]) == (0.25, None)
    assert found["domain"].unique(maintain_order=True).to_list() == ["related", "general"]
    # A step without an alignment has no weight.
    frame = activations(("corrupted", "p00", 9, 1, 1, 0.4), ("corrupted", "p01", 1, 1, 1, None))
    [found] = lenses.activation_statistics(frame, DOMAINS).filter(measure="alignment").to_dicts()
    assert (found["estimate"], found["n_prompts"]) == (pytest.approx(0.4), 1)
    assert lenses.activation_statistics(ACTIVATIONS.frame(), DOMAINS).is_empty()


def test_tokens_that_more_prompts_list_come_first():
    names = ("prompt_id", "by", "side", "rank", "token_id", "change", "probability", "lens_gap")
    frame = table(
        LOGIT_LENS,
        names,
        ("p00", "logit", "up", 1, 7, 9.0, 0.0, 1.0),
        ("p00", "logit", "up", 2, 8, 3.0, 0.0, 1.0),
        ("p01", "logit", "up", 1, 8, 5.0, 0.0, 3.0),
        ("p00", "logit", "down", 1, 5, -1.0, 0.0, 1.0),
        ("p00", "logit", "down", 2, 6, -2.0, 0.0, 1.0),
        ("p00", "probability", "up", 1, 9, 50.0, 0.5, 100.0),
        **{"child": "corrupted", "layer": 2, "token": "t", "steps": 2, "model_gap": 4.0},
    )
    found = lenses.moved_tokens(frame, DOMAINS)
    assert found.filter(by="probability").select("token_id", "probability").rows() == [(9, 0.5)]
    moved = found.filter(by="logit").select("side", "token_id", "prompts", "of", "change").rows()
    assert moved == [("up", 8, 2, 2, 4.0), ("up", 7, 1, 2, 9.0), ("down", 6, 1, 1, -2.0), ("down", 5, 1, 1, -1.0)]
    # A row for each prompt, not for each token.
    transfer = lenses.lens_statistics(frame, DOMAINS).row(0, named=True)
    assert transfer["estimate"] == pytest.approx((2 * 1 + 2 * 3) / (2 * 4 + 2 * 4))
    assert (transfer["measure"], transfer["layer"], transfer["n_prompts"]) == ("lens_recovered_fraction", 2, 2)
    assert all(of(LOGIT_LENS.frame(), DOMAINS).is_empty() for of in (lenses.lens_statistics, lenses.moved_tokens))


def test_steered_answers_are_compared_with_the_clean_models():
    place = "L18.resid_post*0.5"
    rows = [
        *answers("clean", "cc", operations="rr"),
        *answers("corrupted", "ii", operations="pp"),
        *answers("steered", "ic", place, "pr"),
        *answers("steered_random", "c", place, "r"),
        *answers("patched", "i", "L18.resid_post", "p"),
    ]
    columns = ("layer", "strength", "condition", "outcome", "count", "n", "lost", "gained", "against")
    assert lenses.steering(BEHAVIOUR.frame(rows)).select(columns).rows() == [
        (18, 0.5, "steered", "correct", 1, 2, 1, 0, "clean"),
        (18, 0.5, "steered_random", "correct", 1, 1, 0, 0, "clean"),
        (18, 0.5, "steered", "planted", 1, 2, 0, 1, "clean"),
        (18, 0.5, "steered_random", "planted", 0, 1, 0, 0, "clean"),
    ]
    assert lenses.steering(BEHAVIOUR.frame()).is_empty()


def test_the_best_steering_is_measured_on_prompts_that_did_not_choose_it():
    rng, rows = np.random.default_rng(0), []
    for prompt in range(40):
        for strength in range(20):
            # One strength plants the operation in nine of ten texts, the others and all random ones by a coin.
            for condition in ("steered", "steered_random"):
                share, patch = 0.9 if (condition, strength) == ("steered", 7) else 0.5, f"L9.resid_post*{strength}"
                verdict, operation = ("incorrect", "planted") if rng.random() < share else ("correct", "right")
                rows.append(answer(f"p{prompt:02d}", condition, verdict, patch, operation))
    found = lenses.chosen_steering(BEHAVIOUR.frame(rows))
    by = {(row["outcome"], row["condition"]): row for row in found.iter_rows(named=True)}
    assert by["planted", "steered"]["count"] >= 32
    assert by["planted", "steered"]["count"] == 40 - by["correct", "steered"]["count"]
    # The best of twenty coins is a coin where it did not choose itself.
    random = by["planted", "steered_random"]
    assert random["low"] < 0.5 < random["high"]
    every = BEHAVIOUR.frame(rows).filter(condition="steered_random", operation="planted").group_by("patch").len()
    assert every["len"].max() > random["count"]
    assert lenses.chosen_steering(BEHAVIOUR.frame(rows[:40])).is_empty()
