"""Tokens one by one, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from crosspatch.statistics.profile import word_statistics
from crosspatch.tables import SCORES
from score_cells import cell


def cells() -> list[dict]:
    """Layers 0 to 8: of these 7 is late and not the last."""
    rows = []
    for layer in (0, 7, 8):
        rows += [
            cell("p", layer, 0, (-1, 1, 1), token=" add"),
            cell("p", layer, 1, (0, 0, 0), token=" add"),
            cell("p", layer, 2, (-1, 1, 0), token="$$"),
            cell("q", layer, 0, (0, 0, 0), token="$$"),
            cell("q", layer, 1, (0, 0, 0), token="$$"),
            cell("q", layer, 2, (0, 0, 0), token="$$"),
            cell("q", layer, 3, (0, 0, 0), token=" is"),
        ]
    return rows


def test_a_published_score_is_disagreement_times_transfer() -> None:
    table = word_statistics(SCORES.frame(cells()), {"p": "related", "q": "related"})
    assert table["token"].to_list() == [" add", "$$", " is"]
    add, dollars, rest = table.to_dicts()
    assert (add["positions"], add["disagreements"], add["disagreement_rate"], add["mean_cts"]) == (2, 1, 0.5, 1.0)
    assert add["published_cts"] == pytest.approx(0.5)
    assert (dollars["positions"], dollars["prompts"], dollars["disagreement_rate"]) == (4, 2, 0.25)
    assert dollars["published_cts"] == pytest.approx(0.25 * 0.5)
    assert (rest["mean_cts"], rest["published_cts"]) == (None, 0.0)
    for row in (add, dollars):
        assert row["published_cts"] == pytest.approx(row["disagreement_rate"] * row["mean_cts"])


def test_no_late_layer_gives_no_row() -> None:
    only = SCORES.frame([cell("p", 0, 0, (-1, 1, 1))])
    assert word_statistics(only, {"p": "related"}).is_empty()
