"""Table 2 in counts and compared question by question, answers by form, and faults of texts, worked out by hand."""

from __future__ import annotations

import polars as pl
import pytest

from crosspatch.data.problem import Problem
from crosspatch.statistics.answers import MALFORMED, accuracy, comparisons, output_health, table2, table2_rows
from crosspatch.statistics.interval import wilson
from crosspatch.tables import BEHAVIOUR, COMPARISONS, HEALTH
from score_cells import answer

ANSWERS = [
    answer("p", "patched", "correct", "L18.resid_post", domain="general"),
    answer("p", "corrupted", "incorrect", operation="planted"),
    answer("p", "corrupted", "unparsed", operation="planted"),
    answer("p", "corrupted", "unparsed", operation="neither"),
    answer("p", "corrupted", "correct"),
    answer("p", "patched", "incorrect", "L9.resid_post", "planted"),
    answer("p", "clean", "correct", domain="general"),
    answer("p", "clean", "correct", operation="right"),
]


def test_counts_and_order() -> None:
    table = table2(BEHAVIOUR.frame(ANSWERS))
    assert table.select("condition", "patch", "domain", "n").rows() == [
        ("clean", None, "related", 1),
        ("clean", None, "general", 1),
        ("corrupted", None, "related", 4),
        ("patched", "L9.resid_post", "related", 1),
        ("patched", "L18.resid_post", "general", 1),
    ]
    corrupted = table.row(2, named=True)
    assert (corrupted["correct"], corrupted["incorrect"], corrupted["unparsed"]) == (1, 1, 2)
    assert (corrupted["right"], corrupted["planted"], corrupted["neither"]) == (0, 2, 1)


def test_display_keeps_unparsed_apart() -> None:
    rows = table2_rows(table2(BEHAVIOUR.frame(ANSWERS)))
    assert [row.label for row in rows] == [
        "clean",
        "corrupted",
        "patched, L9.resid_post",
        "patched, L18.resid_post",
    ]
    assert rows[0].outcomes["related"].answers == "1/1"
    assert rows[1].outcomes["related"].answers == "1/4 (2 unparsed)"
    assert rows[1].outcomes["related"].operations == "0 right · 2 planted · 1 neither"
    assert rows[0].outcomes["general"].operations is None
    assert "general" not in rows[1].outcomes


def test_no_answers_give_no_rows() -> None:
    assert table2_rows(table2(BEHAVIOUR.frame())) == []


def test_a_foreign_verdict_is_an_error() -> None:
    with pytest.raises(ValueError, match="maybe"):
        table2(BEHAVIOUR.frame([answer("p", "clean", "maybe")]))
    with pytest.raises(ValueError, match="sideways"):
        table2(BEHAVIOUR.frame([answer("p", "clean", operation="sideways")]))


def answers(condition: str, verdicts: str, patch: str | None = None, operations: str = "") -> list[dict]:
    """A row for each letter: c(orrect), i(ncorrect), u(nparsed); r(ight), p(lanted), n(either) or nothing."""
    words = {"c": "correct", "i": "incorrect", "u": "unparsed", "r": "right", "p": "planted", "n": "neither"}
    asked = zip(verdicts, operations or [None] * len(verdicts), strict=True)
    return [answer(f"q{i}", condition, words[said], patch, words.get(done)) for i, (said, done) in enumerate(asked)]


def found(table: pl.DataFrame, condition: str, against: str | None, outcome: str = "correct", patch=None) -> dict:
    [row] = table.filter(
        pl.col("condition") == condition,
        pl.col("outcome") == outcome,
        pl.col("against").eq_missing(against),
        pl.col("patch").eq_missing(patch),
    ).to_dicts()
    return row


def test_shares_and_pairs_by_hand() -> None:
    table = comparisons(
        BEHAVIOUR.frame([*answers("clean", "ccccci"), *answers("corrupted", "iiiucc"), *answers("patched", "ci", "L3")])
    )
    assert dict(table.schema) == pl.Schema(COMPARISONS.dtypes)
    row = found(table, "corrupted", "clean")
    assert (row["count"], row["n"], row["pairs"], row["there"], row["lost"], row["gained"]) == (2, 6, 6, 5, 4, 1)
    assert (row["low"], row["high"]) == (wilson(2, 6).low, wilson(2, 6).high)
    # 4 lost and 1 gained: 2 · (1 + 5) / 2⁵.
    assert row["p_value"] == pytest.approx(12 / 32)
    # Patched were two questions only, and only these are compared.
    patched = found(table, "patched", "clean", patch="L3")
    assert (patched["n"], patched["pairs"], patched["there"], patched["lost"], patched["gained"]) == (2, 2, 2, 1, 0)
    assert found(table, "patched", "corrupted", patch="L3")["gained"] == 1
    # Nothing is compared with itself.
    assert set(table.filter(condition="clean")["against"]) == {"corrupted"}


def test_operations_count_where_one_is_expected() -> None:
    table = comparisons(
        BEHAVIOUR.frame([*answers("clean", "cc", operations="rr"), *answers("corrupted", "ii", operations="pn")])
    )
    row = found(table, "corrupted", "clean", "planted")
    assert (row["count"], row["n"], row["gained"], row["lost"]) == (1, 2, 1, 0)
    without = comparisons(BEHAVIOUR.frame(answers("clean", "cc")))
    assert set(without["outcome"]) == {"correct"}


def test_one_model_alone_has_its_share() -> None:
    row = found(comparisons(BEHAVIOUR.frame(answers("clean", "cci"))), "clean", None)
    assert (row["estimate"], row["p_value"], row["pairs"]) == (pytest.approx(2 / 3), None, None)


def test_rows_are_in_the_order_of_table_2() -> None:
    rows = [*answers("patched", "c", "L10"), *answers("patched", "c", "L9"), *answers("twin", "c")]
    rows += [*answers("corrupted", "c"), *answers("clean", "c")]
    table = comparisons(BEHAVIOUR.frame(rows)).select("condition", "patch").unique(maintain_order=True)
    assert table.rows() == [
        ("clean", None), ("corrupted", None), ("twin", None), ("patched", "L9"), ("patched", "L10"),
    ]  # fmt: skip


PROBLEMS = {
    name: Problem(name, domain=domain, family="f", form=form, question="q", answer="1")
    for name, domain, form in (
        ("a", "related", "one"), ("b", "related", "one"), ("c", "related", "two"), ("g", "general", ""),
    )
}  # fmt: skip


def row(name, condition, verdict, patch=None):
    return answer(name, condition, verdict, patch, domain=PROBLEMS[name].domain)


def test_right_answers_by_model_domain_and_form():
    behaviour = BEHAVIOUR.frame(
        [
            row("g", "clean", "correct"), row("a", "clean", "correct"), row("b", "clean", "unparsed"),
            row("c", "clean", "incorrect"), row("a", "corrupted", "incorrect"),
            row("a", "patched", "correct", "L1.resid_post"),
        ]
    )  # fmt: skip
    assert accuracy(behaviour, PROBLEMS).rows() == [
        ("clean", "related", "one", 1, 2, 0.5),
        ("clean", "related", "two", 0, 1, 0.0),
        ("clean", "general", None, 1, 1, 1.0),
        ("corrupted", "related", "one", 0, 1, 0.0),
    ]
    with pytest.raises(ValueError, match="no problem known for 'a'"):
        accuracy(behaviour, {})


def test_shares_of_texts_with_each_fault():
    sound = dict.fromkeys((*MALFORMED, "cut_off"), 0)
    texts = [
        {"prompt_id": str(i), "condition": "clean", "patch": None, **sound, **faults}
        for i, faults in enumerate([{}, {"looped": 30}, {"unclosed": 2, "unparsable": 1}, {"cut_off": 1}])
    ]
    (found,) = output_health(HEALTH.frame(texts)).iter_rows(named=True)
    assert found == {
        "condition": "clean", "patch": None, "texts": 4, "malformed": 0.5, "looped": 0.25, "backslash_runs": 0.0,
        "escaped_newlines": 0.0, "unclosed": 0.25, "unparsable": 0.25, "cut_off": 0.25,
    }  # fmt: skip
