"""The layer × head picture as data, and as it is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
import pytest

from crosspatch.report.notebook import head_map
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.head_map import LEAST_REACH, HeadMap
from crosspatch.report.print.heatmap import head_map_figure
from crosspatch.report.print.style import COLUMN, PAGE, Size
from crosspatch.tables import SITE_EFFECTS

from .conftest import unpacked


def row(at: int, head: int | None, estimate: float | None, measure: str = "attribution", **more: Any) -> dict[str, Any]:
    component = "attn_out" if head is None else "head"
    place = f"L{at}.{component}" + ("" if head is None else f".{head}")
    return {
        "domain": "related",
        "direction": "corrupt",
        "positions": "all",
        "patch": place,
        "component": component,
        "layer": at,
        "head": head,
        "measure": measure,
        "estimate": estimate,
        "low": None,
        "effective": None,
        "high": None,
        "n_prompts": 4,
        "steps": 9,
        **more,
    }


def places(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    return SITE_EFFECTS.frame(rows)


ROWS = [
    row(2, 1, 0.3),
    row(2, 1, 0.5, "recovered_fraction"),
    row(2, 1, 0.01, "random"),
    row(2, 0, -0.2),
    row(0, 0, 0.05),
    # Layer 0 has no head 1, and these are not its heads.
    row(0, None, 0.9, "recovered_fraction"),
    row(0, 1, 0.7, domain="general"),
    row(0, 1, 0.7, direction="repair"),
    row(0, 1, 0.7, positions="current"),
]


def test_measured_heads_stand_before_estimates() -> None:
    drawn = HeadMap.of(places(ROWS), "related")
    assert (drawn.layers, drawn.heads) == ([0, 2], [0, 1])
    assert drawn.cells.rows() == [(0, 0, 0.05, False), (2, 0, -0.2, False), (2, 1, 0.5, True)]
    assert drawn.reach == 0.5
    assert HeadMap.of(places(reversed(ROWS)), "related").cells.equals(drawn.cells)


def test_what_is_said_beside_it() -> None:
    first, second, third = HeadMap.of(places(ROWS), "related").notes()
    assert first.startswith("1 of 3 heads are measured, marked with a ring; the colour of the others")
    assert second == "Layer 2, head 1 recovers most: 0.50 (measured)."
    assert "Only attn_out" in third
    assert HeadMap.of(places([row(1, 0, 0.2, "recovered_fraction")]), "related").notes()[0] == "All heads are measured."
    alone = HeadMap.of(places([row(1, 0, -0.2)]), "related")
    assert alone.notes()[1] == "Layer 1, head 0 recovers most: −0.20 (estimated)."
    said = "Related mathematics · corrupted activations into the clean model, at all positions"
    assert alone.title == f"Recovered fraction of each head alone · {said}"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no heads of related"),
        ([row(0, None, 0.9)], "no heads of related"),
        ([row(0, 0, float("nan"))], "finite"),
        ([row(0, 0, None)], "no heads of related"),
    ],
)
def test_what_cannot_be_drawn_is_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadMap.of(places(rows), "related")


@pytest.mark.parametrize(("size", "turned"), [(COLUMN, False), (PAGE, True)])
def test_matplotlib_draws_the_same_cells(size: Size, turned: bool) -> None:
    """Layers upwards in a column, rightwards on a page."""
    axes = head_map_figure(HeadMap.of(places(ROWS), "related"), size).axes[0]
    [cells] = axes.collections
    # Layer 0 has no head 1.
    rows = [[0.05, None], [-0.2, 0.5]]
    assert cells.get_array().tolist() == ([list(row) for row in zip(*rows, strict=True)] if turned else rows)
    # Centred on 0, as far to either side as the largest transfer.
    assert cells.get_clim() == (-0.5, 0.5)
    assert np.allclose(
        cells.cmap(0.5)[:3], [int(palette.CTS_SCALE[3][1][i : i + 2], 16) / 255 for i in (1, 3, 5)], atol=0.01
    )
    [rings] = axes.lines
    assert rings.get_xydata().tolist() == [[1, 1]]
    labels = [[label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)]
    assert labels == ([["0", "2"], ["0", "1"]] if turned else [["0", "1"], ["0", "2"]])


def test_small_transfers_are_not_blown_up_and_many_heads_stay_readable() -> None:
    drawn = HeadMap.of(places([row(0, head, 0.001) for head in range(120)]), "related")
    assert drawn.reach == LEAST_REACH
    axes = head_map_figure(drawn, COLUMN).axes[0]
    assert not axes.lines
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == [str(head) for head in range(0, 120, 20)]


def drawn_by_the_page(*args: Any, **options: Any) -> dict[str, Any]:
    """The heads that the page's own script draws in a notebook."""
    [heads] = unpacked(head_map(*args, **options).html, "heads")
    return heads


def test_a_notebook_shows_the_same_cells() -> None:
    heads = drawn_by_the_page(places(ROWS), "related", direction="corrupt")
    # layer, head, transfer, and whether it was measured
    assert heads["cells"] == [[0, 0, 0.05, False], [2, 0, -0.2, False], [2, 1, 0.5, True]]
    assert (heads["heads"], heads["layers"]) == ([0, 1], [0, 2])
    assert heads["reach"] == 0.5
    assert heads["notes"] == HeadMap.of(places(ROWS), "related").notes()


def test_without_a_domain_the_first_is_drawn_and_others_can_be_asked_for() -> None:
    table = places(ROWS)
    assert drawn_by_the_page(table) == drawn_by_the_page(table, "related")
    assert [cell[2] for cell in drawn_by_the_page(table, "general")["cells"]] == [0.7]
    assert "clean activations" in drawn_by_the_page(table, direction="repair")["title"]
    assert "at the current position" in drawn_by_the_page(table, positions="current")["title"]
    with pytest.raises(ValueError, match="no heads were localised: near, all"):
        head_map(table, "near")
