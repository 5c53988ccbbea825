"""The heads of a model as a picture: layers upwards, heads rightwards, each head's recovered fraction in its cell.

Measured heads are marked; the cells of other heads have the estimate by gradients. `print` draws the picture for paper,
and the page's script in a browser or notebook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.characters import legible
from crosspatch.statistics.domain import domain_title
from crosspatch.statistics.localisation import POSITIONS
from crosspatch.tables import SITE_EFFECTS

# The least range of the colour scale, so small values are not drawn in strong colours.
LEAST_REACH = 0.1
_SOURCES = {
    "corrupt": "corrupted activations into the clean model",
    "repair": "clean activations into the corrupted model",
}
_HEADS = pl.col("component") == "head", pl.col("measure").is_in(["attribution", "recovered_fraction"])


@dataclass(frozen=True, eq=False)
class HeadMap:
    """The heads of a domain, direction and positions: see `of`.

    `cells` has a row for each head, sorted, with columns `layer`, `head`, `recovered_fraction` and `exact` (whether it
    was measured).
    """

    domain: str
    direction: str
    positions: str
    cells: pl.DataFrame

    @classmethod
    def of(cls, table: pl.DataFrame, domain: str, direction: str = "corrupt", positions: str = "all") -> HeadMap:
        """From a table of site effects: the measured value of each head, or else its estimate.

        Raises ValueError if the table lacks columns of site effects, has no such heads, or has a value that is not
        finite.
        """
        lacking = [column for column in SITE_EFFECTS.columns if column not in table.columns]
        if lacking:
            raise ValueError(f"a head map needs the columns of site effects, got none named {', '.join(lacking)}")
        rows = table.filter(*_HEADS, pl.col("estimate").is_not_null())
        cells = (
            rows.filter(domain=domain, direction=direction, positions=positions)
            .with_columns(exact=pl.col("measure") == "recovered_fraction")
            .sort("layer", "head", "exact", descending=[False, False, True])
            .unique(["layer", "head"], keep="first", maintain_order=True)
            .select("layer", "head", pl.col("estimate").alias("recovered_fraction"), "exact")
        )
        if cells.is_empty():
            raise ValueError(f"no heads of {domain}, {direction}, to draw")
        if not cells["recovered_fraction"].is_finite().all():
            raise ValueError("a recovered fraction is not finite")
        return cls(domain, direction, positions, cells)

    @property
    def layers(self) -> list[int]:
        """The layers, lowest first."""
        return self.cells["layer"].unique().sort().to_list()

    @property
    def heads(self) -> list[int]:
        """The heads, first to last."""
        return self.cells["head"].unique().sort().to_list()

    @property
    def reach(self) -> float:
        """The end of the scale on both sides of 0: the largest magnitude, and at least LEAST_REACH."""
        return max(LEAST_REACH, float(self.cells["recovered_fraction"].abs().max()))  # type: ignore[arg-type]

    @property
    def title(self) -> str:
        """The title of the picture."""
        moved = _SOURCES.get(self.direction, self.direction)
        where = POSITIONS.get(self.positions, self.positions)
        return f"Recovered fraction of each head alone · {domain_title(self.domain)} · {moved}, {where}"

    def notes(self) -> list[str]:
        """The sentences beside the picture."""
        measured = self.cells["exact"].sum()
        best = self.cells.row(self.cells["recovered_fraction"].arg_max(), named=True)
        notes = ["All heads are measured."]
        if measured < self.cells.height:
            notes = [
                f"{measured:,} of {self.cells.height:,} heads are measured, marked with a ring; the colour of the "
                "others is the estimate by gradients."
            ]
        how = "measured" if best["exact"] else "estimated"
        share = f"{best['recovered_fraction']:.2f}".replace("-", "−")
        return [
            *notes,
            f"Layer {best['layer']}, head {best['head']} recovers most: {share} ({how}).",
            "A head is the input of the output projection. Only attn_out shows changes of that projection itself.",
        ]

    @property
    def data(self) -> dict[str, Any]:
        """The picture as JSON, for the page."""
        return {
            "title": legible(self.title),
            "notes": [legible(note) for note in self.notes()],
            "layers": self.layers,
            "heads": self.heads,
            "reach": self.reach,
            "cells": [list(cell) for cell in self.cells.iter_rows()],
        }


def head_maps(table: pl.DataFrame) -> list[HeadMap]:
    """A head map for each domain, direction and positions, in the order of the table."""
    found = table.filter(*_HEADS, pl.col("estimate").is_not_null()).select("domain", "direction", "positions")
    return [HeadMap.of(table, *row) for row in found.unique(maintain_order=True).iter_rows()]
