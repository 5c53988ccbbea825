"""Table 2 question by question, against numbers worked out by hand."""

from __future__ import annotations

import polars as pl
import pytest

from crosspatch.statistics.answers import comparisons
from crosspatch.statistics.interval import wilson
from crosspatch.tables import BEHAVIOUR, COMPARISONS
from score_cells import of_text


def answers(condition: str, verdicts: str, patch: str | None = None, operations: str = "") -> list[dict]:
    """A row for each letter: c(orrect), i(ncorrect), u(nparsed); r(ight), p(lanted), n(either) or nothing."""
    words = {"c": "correct", "i": "incorrect", "u": "unparsed", "r": "right", "p": "planted", "n": "neither"}
    return [
        {
            "prompt_id": f"q{i}",
            "domain": "related",
            "condition": condition,
            **of_text(patch),
            "extracted": None,
            "verdict": words[verdict],
            "operation": words[operations[i]] if operations else None,
            "health": [],
        }
        for i, verdict in enumerate(verdicts)
    ]


def found(table: pl.DataFrame, condition: str, against: str | None, outcome: str = "correct", patch=None) -> dict:
    rows = table.filter(
        pl.col("condition") == condition,
        pl.col("outcome") == outcome,
        pl.col("against").eq_missing(against),
        pl.col("patch").eq_missing(patch),
    ).to_dicts()
    assert len(rows) == 1
    return rows[0]


def test_shares_and_pairs_by_hand() -> None:
    table = comparisons(
        BEHAVIOUR.frame([*answers("clean", "ccccci"), *answers("corrupted", "iiiucc"), *answers("patched", "ci", "L3")])
    )
    assert dict(table.schema) == pl.Schema(COMPARISONS.dtypes)
    row = found(table, "corrupted", "clean")
    assert (row["count"], row["n"], row["pairs"], row["there"], row["lost"], row["gained"]) == (2, 6, 6, 5, 4, 1)
    assert (row["low"], row["high"]) == (wilson(2, 6).low, wilson(2, 6).high)
    # 4 lost and 1 gained: 2 · (1 + 5) / 2⁵.
    assert row["chance"] == pytest.approx(12 / 32)
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
    assert (row["estimate"], row["chance"], row["pairs"]) == (pytest.approx(2 / 3), None, None)


def test_rows_are_in_the_order_of_table_2() -> None:
    rows = [*answers("patched", "c", "L10"), *answers("patched", "c", "L9"), *answers("twin", "c")]
    rows += [*answers("corrupted", "c"), *answers("clean", "c")]
    table = comparisons(BEHAVIOUR.frame(rows)).select("condition", "patch").unique(maintain_order=True)
    assert table.rows() == [
        ("clean", None), ("corrupted", None), ("twin", None), ("patched", "L9"), ("patched", "L10"),
    ]  # fmt: skip
