"""Table 2 against counts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from crosspatch.statistics.answers import table2, table2_rows
from crosspatch.tables import BEHAVIOUR
from score_cells import of_text


def answer(
    domain: str, condition: str, verdict: str, operation: str | None = None, patch: str | None = None
) -> dict[str, Any]:
    return {
        "prompt_id": "p",
        "domain": domain,
        "condition": condition,
        **of_text(patch),
        "extracted": None,
        "verdict": verdict,
        "operation": operation,
        "health": [],
    }


ANSWERS = [
    answer("general", "patched", "correct", patch="L18.resid_post"),
    answer("related", "corrupted", "incorrect", "planted"),
    answer("related", "corrupted", "unparsed", "planted"),
    answer("related", "corrupted", "unparsed", "neither"),
    answer("related", "corrupted", "correct", None),
    answer("related", "patched", "incorrect", "planted", "L9.resid_post"),
    answer("general", "clean", "correct"),
    answer("related", "clean", "correct", "right"),
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
        table2(BEHAVIOUR.frame([answer("related", "clean", "maybe")]))
    with pytest.raises(ValueError, match="sideways"):
        table2(BEHAVIOUR.frame([answer("related", "clean", "correct", "sideways")]))
