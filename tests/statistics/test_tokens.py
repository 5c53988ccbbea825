"""Token classes and what is said of them, against numbers worked out by hand and with known truth."""

from itertools import product

import polars as pl
import pytest

from crosspatch.statistics.token_class import class_of, with_class
from crosspatch.statistics.tokens import mistake_statistics, token_statistics
from crosspatch.tables import CONTROLS, SCORES
from score_cells import DOMAINS, PROMPTS, RECOVERED, cell

TEXTS = {1: " Sub", 2: "Add", 3: " 5", 4: " 7", 5: "$$", 6: " is", 7: "Answer", 8: " -"}


@pytest.mark.parametrize(
    ("tokens", "name"),
    [
        (["Sub", " add", "Mult", " Div", " dividing", " move", "minus", "**Add"], "operation"),
        (["Answer", " **Answer", "boxed", r"\boxed", "STOP", " solution"], "answer"),
        ([" 5", "12", "3x", "1/2"], "digit"),
        ([" -", "−", "=", "(", "+", " ≤", "^"], "sign"),
        (["$$", "\\", "frac", r"\frac", "{", "}}", "$\n"], "latex"),
        ([" use", "where", " is", "x", "\n", ".", "", "tract", "both", "\ud800", "�"], "other"),
    ],
)
def test_classes(tokens: list[str], name: str) -> None:
    assert [class_of(token) for token in tokens] == [name] * len(tokens)


def predicted(prompt: str, layer: int, step: int, tokens: tuple[int, int], share: float | None, writes=0) -> dict:
    """A cell with the predictions of both models, what is recovered (None: they agree), and which one is written."""
    deltas = (0.0, 0.0, 0.0) if share is None else (-1.0, 1.0, -1.0 + 2 * share)
    written = {"token_id": tokens[writes], "token": TEXTS[tokens[writes]]}
    return cell(prompt, layer, step, deltas, **written, clean_token_id=tokens[0], corrupted_token_id=tokens[1])


def cells() -> pl.DataFrame:
    """Steps of each prompt: operation words and digits that disagree, and others that agree."""
    agree = [((token, token), None) for token in (6, 5, 1, 8)]
    # The corrupted model's words have to have been written somewhere to be known: at the last layer.
    return SCORES.frame(
        predicted(prompt, layer, step, tokens, None if share is None else share + 0.01 * i, layer == 6)
        for i, prompt in enumerate(PROMPTS)
        for layer, operation, digit in ((2, 0.2, 0.6), (4, 0.4, 0.8), (6, 1.0, 1.0))
        for step, (tokens, share) in enumerate([((1, 2), operation), ((3, 4), digit), *agree])
    )


def found(table: pl.DataFrame, name: str, measure: str, layer: int | None = 4, contrast: str = "value") -> dict:
    here = pl.col("class") == name, pl.col("layer").eq_missing(layer)
    [row] = table.filter(*here, measure=measure, contrast=contrast).to_dicts()
    return row


def test_the_class_of_a_cell_is_that_of_what_the_clean_model_predicts() -> None:
    tokens = {"token_id": [6, 2, 6], "clean_token_id": [6, 2, 99], "corrupted_token_id": [2, 6, 6]}
    rows = SCORES.frame(cell("p", 0, step, (-1, 1, 0)) for step in range(3))
    rows = rows.with_columns(pl.Series(name, ids, rows.schema[name]) for name, ids in tokens.items())
    # What the corrupted model predicts or the patched one writes decides nothing.
    assert with_class(rows, TEXTS)["class"].to_list() == ["other", "operation", "other"]
    assert with_class(rows, {**TEXTS, 99: " Mult"})["class"].to_list() == ["other", "operation", "operation"]


def test_classes_by_hand() -> None:
    table = token_statistics(cells(), DOMAINS)
    assert token_statistics(cells(), DOMAINS).equals(table)
    # One of the two operation words disagrees; the only digit does.
    rates = {name: found(table, name, "disagreement_rate")["estimate"] for name in ("operation", "digit", "latex")}
    assert rates == {"operation": 0.5, "digit": 1.0, "latex": 0.0}
    assert found(table, "operation", "share_of_disagreements")["estimate"] == 0.5
    # One of two against one of four.
    assert found(table, "operation", "disagreement_rate", contrast="excess")["estimate"] == pytest.approx(0.25)
    # In all layers but the last together it is the mean of 0.2 and 0.4.
    for place, estimate in (((4, "value"), 0.445), ((4, "excess"), -0.4), ((None, "value"), 0.345)):
        assert found(table, "operation", RECOVERED, *place)["estimate"] == pytest.approx(estimate, abs=1e-6)
    assert found(table, "latex", RECOVERED)["estimate"] is None
    less, more = (found(table, name, RECOVERED, contrast="excess") for name in ("operation", "digit"))
    assert (less["high"] < 0, less["p_value"] > 0.99) == (more["low"] > 0, more["p_value"] < 0.01) == (True, True)
    # What is in one prompt alone has no interval.
    lone = cells().filter((pl.col("prompt_id") == PROMPTS[0]) | (pl.col("clean_token_id") != 1))
    row = found(token_statistics(lone, DOMAINS), "operation", RECOVERED, contrast="excess")
    assert (row["n_prompts"], row["low"], row["high"]) == (1, None, None)
    # Labelled places of the mistake have the same statistics.
    mistakes = cells().with_columns(span=pl.when(pl.col("clean_token_id") == 1).then(pl.lit("word")))
    table = mistake_statistics(mistakes, DOMAINS)
    assert (set(table["class"]), set(table["by"])) == ({"word", "none"}, {"span"})
    assert found(table, "word", RECOVERED)["estimate"] == pytest.approx(0.445, abs=1e-6)


def test_an_excess_is_one_at_the_same_layers() -> None:
    """At each layer both classes transfer alike; layer 4, where much is recovered, has more digits."""
    rows = [
        predicted(prompt, layer, 4 * layer + step, (3, 4) if step < digits else (1, 2), share + 0.01 * ((i + step) % 3))
        for i, prompt in enumerate(PROMPTS)
        for layer, share, digits in ((2, 0.1, 1), (4, 0.9, 3))
        for step in range(4)
    ]
    table = token_statistics(SCORES.frame(rows), DOMAINS, texts=TEXTS, n_layers=6)
    # Pooled, digits look as if more transferred there; at either layer it does not.
    raw = {name: found(table, name, RECOVERED, None)["estimate"] for name in ("digit", "operation")}
    assert raw["digit"] - raw["operation"] == pytest.approx(0.4, abs=0.01)
    pooled = found(table, "digit", RECOVERED, None, "excess")
    assert pooled["estimate"] == pytest.approx(0, abs=0.01)
    assert pooled["low"] < 0 < pooled["high"]
    assert pooled["p_value"] > 0.05


def test_controls_are_compared_in_the_late_layers() -> None:
    """Of 9 layers those from 7 on are late; the last is a ceiling. Patched, operations recover 0.9, by a twin 0.2."""
    places = list(product(enumerate(PROMPTS), (2, 7, 8), enumerate(((1, 2), (3, 4)))))
    rows = [predicted(p, layer, *of, (0.3 if layer == 2 else 0.9) + 0.01 * (i % 3)) for (i, p), layer, of in places]
    controls = [{"control": "twin", **predicted(prompt, layer, *of, 0.2)} for (_, prompt), layer, of in places]
    frames = {"controls": CONTROLS.frame(controls), "texts": TEXTS}
    table = token_statistics(SCORES.frame(rows), DOMAINS, **frames, n_layers=9).filter(pl.col("class") == "operation")
    late = table.filter("late", contrast="value", measure=RECOVERED).sort("control", nulls_last=False)
    assert late["control"].to_list() == [None, "twin"]
    assert late["estimate"].to_list() == pytest.approx([0.909, 0.2], abs=1e-6)
    assert late["high"][1] < 0.3
    # All layers but the last, of which one is late; controls are compared in the late ones alone.
    whole = table.filter(~pl.col("late"))
    assert found(whole, "operation", RECOVERED, None)["estimate"] == pytest.approx(0.609, abs=1e-6)
    assert set(whole["control"]) == {None}
