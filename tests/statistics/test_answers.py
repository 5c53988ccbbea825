"""Table 2 in counts and compared question by question, answers by form, and faults of texts, worked out by hand."""

import polars as pl
import pytest

from crosspatch.data.problem import Problem
from crosspatch.statistics.answers import MALFORMED, accuracy, comparisons, output_health, table2, table2_rows
from crosspatch.statistics.interval import wilson
from crosspatch.tables import BEHAVIOUR, COMPARISONS, HEALTH
from score_cells import answer, answers


def test_table_2_counts_in_its_order_and_keeps_unparsed_answers_apart() -> None:
    rows = [
        *answers("patched", "c", "L18.resid_post", domain="general"),
        *answers("corrupted", "iuuc", operations="ppn"),
        *answers("patched", "i", "L9.resid_post", "p"),
        *answers("clean", "c", domain="general"),
        *answers("clean", "c", operations="r"),
    ]
    table = table2(BEHAVIOUR.frame(rows))
    assert table.select("condition", "patch", "domain", "n").rows() == [
        ("clean", None, "related", 1),
        ("clean", None, "general", 1),
        ("corrupted", None, "related", 4),
        ("patched", "L9.resid_post", "related", 1),
        ("patched", "L18.resid_post", "general", 1),
    ]
    counts = table.select("correct", "incorrect", "unparsed", "right", "planted", "neither").row(2)
    assert counts == (1, 1, 2, 0, 2, 1)
    rows = table2_rows(table)
    assert [row.label for row in rows] == ["clean", "corrupted", "patched, L9.resid_post", "patched, L18.resid_post"]
    clean, corrupted = rows[0].outcomes, rows[1].outcomes
    assert (clean["related"].answers, clean["general"].operations) == ("1/1", None)
    assert corrupted.keys() == {"related"}
    assert corrupted["related"].answers == "1/4 (2 unparsed)"
    assert corrupted["related"].operations == "0 right · 2 planted · 1 neither"
    assert table2_rows(table2(BEHAVIOUR.frame())) == []
    for foreign in ({"verdict": "maybe"}, {"operation": "sideways"}):
        with pytest.raises(ValueError, match=next(iter(foreign.values()))):
            table2(BEHAVIOUR.frame([answer("p", "clean", **foreign)]))
    # Comparisons have the same order.
    order = [("clean", None), ("corrupted", None), ("twin", None), ("patched", "L9"), ("patched", "L10")]
    table = compared(*(answers(condition, "c", patch) for condition, patch in reversed(order)))
    assert table.select("condition", "patch").unique(maintain_order=True).rows() == order


def found(table: pl.DataFrame, condition: str, against: str | None, outcome: str = "correct") -> dict:
    [row] = table.filter(pl.col("against").eq_missing(against), condition=condition, outcome=outcome).to_dicts()
    return row


def compared(*rows: list[dict]) -> pl.DataFrame:
    return comparisons(BEHAVIOUR.frame(row for some in rows for row in some))


def test_shares_and_pairs_by_hand() -> None:
    table = compared(answers("clean", "ccccci"), answers("corrupted", "iiiucc"), answers("patched", "ci", "L3"))
    assert dict(table.schema) == pl.Schema(COMPARISONS.dtypes)
    row = found(table, "corrupted", "clean")
    assert (row["count"], row["n"], row["pairs"], row["there"], row["lost"], row["gained"]) == (2, 6, 6, 5, 4, 1)
    assert (row["low"], row["high"]) == (wilson(2, 6).low, wilson(2, 6).high)
    # 4 lost and 1 gained: 2 · (1 + 5) / 2⁵.
    assert row["p_value"] == pytest.approx(12 / 32)
    # Patched were two questions only, and only these are compared.
    patched = found(table, "patched", "clean")
    assert (patched["n"], patched["pairs"], patched["there"], patched["lost"], patched["gained"]) == (2, 2, 2, 1, 0)
    assert found(table, "patched", "corrupted")["gained"] == 1
    # Nothing is compared with itself, and one model alone has its share.
    assert set(table.filter(condition="clean")["against"]) == {"corrupted"}
    alone = found(compared(answers("clean", "cci")), "clean", None)
    assert (alone["estimate"], alone["p_value"], alone["pairs"]) == (pytest.approx(2 / 3), None, None)
    # Operations count where one is expected.
    assert set(table["outcome"]) == {"correct"}
    table = compared(answers("clean", "cc", operations="rr"), answers("corrupted", "ii", operations="pn"))
    row = found(table, "corrupted", "clean", "planted")
    assert (row["count"], row["n"], row["gained"], row["lost"]) == (1, 2, 1, 0)


def test_right_answers_by_model_domain_and_form():
    forms = (("a", "related", "one"), ("b", "related", "one"), ("c", "related", "two"), ("g", "general", ""))
    problems = {name: Problem(name, domain, "f", "q", "1", form=form) for name, domain, form in forms}
    rows = [
        ("g", "clean", "correct"), ("a", "clean", "correct"), ("b", "clean", "unparsed"), ("c", "clean", "incorrect"),
        ("a", "corrupted", "incorrect"), ("a", "patched", "correct", "L1.resid_post"),
    ]  # fmt: skip
    behaviour = BEHAVIOUR.frame(answer(*row, domain=problems[row[0]].domain) for row in rows)
    assert accuracy(behaviour, problems).rows() == [
        ("clean", "related", "one", 1, 2, 0.5),
        ("clean", "related", "two", 0, 1, 0.0),
        ("clean", "general", None, 1, 1, 1.0),
        ("corrupted", "related", "one", 0, 1, 0.0),
    ]
    with pytest.raises(ValueError, match="got no problem for the prompt 'a'"):
        accuracy(behaviour, {})


def test_shares_of_texts_with_each_fault():
    sound = dict.fromkeys((*MALFORMED, "cut_off"), 0)
    faults = [{}, {"looped": 30}, {"unclosed": 2, "unparsable": 1}, {"cut_off": 1}]
    texts = [{"prompt_id": str(i), "condition": "clean", "patch": None, **sound, **of} for i, of in enumerate(faults)]
    [found] = output_health(HEALTH.frame(texts)).to_dicts()
    assert found == {
        "condition": "clean", "patch": None, "texts": 4, "malformed": 0.5, "looped": 0.25, "backslash_runs": 0.0,
        "escaped_newlines": 0.0, "unclosed": 0.25, "unparsable": 0.25, "cut_off": 0.25,
    }  # fmt: skip
