"""The layer × head picture as data, and as it is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from crosspatch.report.notebook import head_map
from crosspatch.report.pictures import palette
from crosspatch.report.pictures.head_map import LEAST_REACH, HeadMap
from crosspatch.report.print.heatmap import head_map_figure
from crosspatch.report.print.style import COLUMN, PAGE
from crosspatch.tables import SITE_EFFECTS

from .conftest import site_effect, unpacked

ROWS = [
    site_effect(2, 1, 0.3),
    site_effect(2, 1, 0.5, "recovered_fraction"),
    site_effect(2, 1, 0.01, "random"),
    site_effect(2, 0, -0.2),
    site_effect(0, 0, 0.05),
    # Layer 0 has no head 1, and these are not its heads.
    site_effect(0, None, 0.9, "recovered_fraction"),
    site_effect(0, 1, 0.7, domain="general"),
    site_effect(0, 1, 0.7, direction="repair"),
    site_effect(0, 1, 0.7, positions="current"),
]
TABLE = SITE_EFFECTS.frame(ROWS)


def of(*rows: dict) -> HeadMap:
    return HeadMap.of(SITE_EFFECTS.frame(rows), "related")


def test_measured_heads_stand_before_estimates():
    drawn = of(*ROWS)
    assert (drawn.layers, drawn.heads) == ([0, 2], [0, 1])
    assert drawn.cells.rows() == [(0, 0, 0.05, False), (2, 0, -0.2, False), (2, 1, 0.5, True)]
    assert drawn.reach == 0.5
    assert of(*reversed(ROWS)).cells.equals(drawn.cells)


def test_what_is_said_beside_it():
    first, second, third = of(*ROWS).notes()
    assert first.startswith("1 of 3 heads are measured, marked with a ring; the colour of the others")
    assert second == "Layer 2, head 1 recovers most: 0.50 (measured)."
    assert "Only attn_out" in third
    assert of(site_effect(1, 0, 0.2, "recovered_fraction")).notes()[0] == "All heads are measured."
    alone = of(site_effect(1, 0, -0.2))
    assert alone.notes()[1] == "Layer 1, head 0 recovers most: −0.20 (estimated)."
    said = "Related mathematics · corrupted activations into the clean model, at all positions"
    assert alone.title == f"Recovered fraction of each head alone · {said}"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no heads of related"),
        ([site_effect(0, None, 0.9)], "no heads of related"),
        ([site_effect(0, 0, float("nan"))], "finite"),
        ([site_effect(0, 0, None)], "no heads of related"),
    ],
)
def test_what_cannot_be_drawn_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        of(*rows)


@pytest.mark.parametrize(("size", "turned"), [(COLUMN, False), (PAGE, True)])
def test_matplotlib_draws_the_same_cells(size, turned):
    """Layers upwards in a column, rightwards on a page."""
    axes = head_map_figure(of(*ROWS), size).axes[0]
    [cells] = axes.collections
    # Layer 0 has no head 1.
    rows = [[0.05, None], [-0.2, 0.5]]
    assert cells.get_array().tolist() == ([list(row) for row in zip(*rows, strict=True)] if turned else rows)
    # Centred on 0, as far to either side as the largest recovered fraction.
    assert cells.get_clim() == (-0.5, 0.5)
    cream = [int(palette.CTS_SCALE[3][1][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    assert np.allclose(cells.cmap(0.5)[:3], cream, atol=0.01)
    [rings] = axes.lines
    assert rings.get_xydata().tolist() == [[1, 1]]
    labels = [[label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)]
    assert labels == ([["0", "2"], ["0", "1"]] if turned else [["0", "1"], ["0", "2"]])


def test_small_values_are_not_blown_up_and_many_heads_stay_readable():
    drawn = of(*(site_effect(0, head, 0.001) for head in range(120)))
    assert drawn.reach == LEAST_REACH
    axes = head_map_figure(drawn, COLUMN).axes[0]
    assert not axes.lines
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(head) for head in range(0, 120, 20)]


def test_a_notebook_shows_the_same_cells_of_the_first_or_of_a_chosen_map():
    def drawn(*args, **options) -> dict:
        [heads] = unpacked(head_map(TABLE, *args, **options).html, "heads")
        return heads

    heads = drawn("related", direction="corrupt")
    # layer, head, recovered fraction, and whether it was measured
    assert heads["cells"] == [[0, 0, 0.05, False], [2, 0, -0.2, False], [2, 1, 0.5, True]]
    assert (heads["heads"], heads["layers"], heads["reach"]) == ([0, 1], [0, 2], 0.5)
    assert heads["notes"] == of(*ROWS).notes()
    assert drawn() == drawn("related") == heads
    assert [cell[2] for cell in drawn("general")["cells"]] == [0.7]
    assert "clean activations" in drawn(direction="repair")["title"]
    assert "at the current position" in drawn(positions="current")["title"]
    with pytest.raises(ValueError, match="no heads were localised: near, all"):
        drawn("near")
