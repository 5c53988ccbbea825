"""The heads of a model as a picture: layers upwards, heads rightwards, the transfer of each in its cell.

Validated data, ready to draw, and what has to be said beside it: heads that were measured are marked, of the others
the cell holds the estimate. It is drawn by `print` for paper and by the page's own script, in a notebook too.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from crosspatch.statistics.domain import domain_title
from crosspatch.statistics.localisation import POSITIONS
from crosspatch.tables import SITE_EFFECTS

# A head of this transfer or more is never drawn paler than it is: the scale of the picture reaches at least so far.
LEAST_REACH = 0.1
_SOURCES = {
    "corrupt": "corrupted activations into the clean model",
    "repair": "clean activations into the corrupted model",
}


@dataclass(frozen=True, eq=False)
class HeadMap:
    """The heads of a domain, direction and positions: `cells` has a row for each, `layer`, `head`,
    `recovered_fraction`, `exact`.

    Raises ValueError where there is none, where one stands there twice, or where a transfer is no number.
    """

    domain: str
    direction: str
    positions: str
    cells: pl.DataFrame

    def __post_init__(self) -> None:
        wanted = {"layer": pl.Int32, "head": pl.Int32, "recovered_fraction": pl.Float64, "exact": pl.Boolean}
        if dict(self.cells.schema) != wanted:
            raise ValueError(f"a head map needs {', '.join(wanted)}, got {', '.join(self.cells.columns)}")
        if self.cells.is_empty():
            raise ValueError(f"no heads of {self.domain}, {self.direction}, to draw")
        if any(self.cells[column].has_nulls() for column in wanted):
            raise ValueError("a head map has no empty values: every head has an estimate at least")
        if self.cells.select("layer", "head").is_duplicated().any():
            raise ValueError(f"a head of {self.domain}, {self.direction}, stands there twice")
        if not self.cells["recovered_fraction"].is_finite().all():
            raise ValueError("a recovered fraction is not finite")
        object.__setattr__(self, "cells", self.cells.sort("layer", "head"))

    @classmethod
    def of(cls, table: pl.DataFrame, domain: str, direction: str = "corrupt", positions: str = "all") -> HeadMap:
        """Out of a table of site effects: what was measured, and the estimate where nothing was."""
        lacking = [column for column in SITE_EFFECTS.columns if column not in table.columns]
        if lacking:
            raise ValueError(f"a head map needs the columns of site effects, got none named {', '.join(lacking)}")
        rows = table.filter(
            pl.col("measure").is_in(["attribution", "recovered_fraction"]), pl.col("estimate").is_not_null()
        )
        cells = (
            rows.filter(domain=domain, direction=direction, positions=positions, component="head")
            .with_columns(exact=pl.col("measure") == "recovered_fraction")
            .sort("exact", descending=True)
            .unique(["layer", "head"], keep="first", maintain_order=True)
            .select("layer", "head", pl.col("estimate").alias("recovered_fraction"), "exact")
        )
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
        """Where the scale ends on both sides of 0: the largest transfer, or what is drawn at least."""
        return max(LEAST_REACH, float(self.cells["recovered_fraction"].abs().max() or 0.0))  # type: ignore[arg-type]

    def exact(self) -> list[tuple[int, int]]:
        """(layer, head) of those that were measured."""
        return list(self.cells.filter("exact").select("layer", "head").iter_rows())

    @property
    def title(self) -> str:
        """What is drawn, in words."""
        moved = _SOURCES.get(self.direction, self.direction)
        where = POSITIONS.get(self.positions, self.positions)
        return f"Recovered fraction of each head alone · {domain_title(self.domain)} · {moved}, {where}"

    def notes(self) -> list[str]:
        """What must be said beside the picture, as sentences out of the numbers."""
        measured = len(self.exact())
        said = f"{measured:,} of {self.cells.height:,} heads are measured, marked with a ring"
        notes = ["All heads are measured."]
        if measured < self.cells.height:
            notes = [f"{said}; of the others the colour is the estimate by gradients."]
        best = self.cells.sort("recovered_fraction", descending=True, maintain_order=True).row(0, named=True)
        how = "measured" if best["exact"] else "estimated"
        share = f"{best['recovered_fraction']:.2f}".replace("-", "−")
        notes.append(f"Most is carried by layer {best['layer']}, head {best['head']}: {share} ({how}).")
        notes.append(
            "A head is what the output projection reads: what became of that projection itself shows in attn_out alone."
        )
        return notes


def head_maps(table: pl.DataFrame) -> list[HeadMap]:
    """One for each domain, direction and positions in which heads were localised, in the order of the table."""
    heads = table.filter(pl.col("component") == "head", pl.col("measure").is_in(["attribution", "recovered_fraction"]))
    found = heads.filter(pl.col("estimate").is_not_null()).select("domain", "direction", "positions")
    return [HeadMap.of(table, *row) for row in found.unique(maintain_order=True).iter_rows()]
