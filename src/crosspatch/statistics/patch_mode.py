"""A mode: the way in which single layers were patched (component, direction, persistence, schedule).

Scores of different modes answer different questions and are never pooled: charts and averages are of one mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import polars as pl

from crosspatch.config import Direction
from crosspatch.patching.measures import ONE_LAYER
from crosspatch.statistics.bootstrap import Ratios
from crosspatch.statistics.domain import ordered_domains, with_domain
from crosspatch.statistics.interval import Interval

T = TypeVar("T", Ratios, Interval)

# The columns of a mode, in tables of scores and of statistics.
KEYS = ("component", "direction", "persistence", "schedule")
_MOVED = {
    "corrupt": "the corrupted model's activations moved into the clean model",
    "repair": "the clean model's activations moved into the corrupted model",
}


@dataclass(frozen=True)
class PatchMode:
    """One component, direction, persistence and schedule."""

    component: str
    direction: str
    persistence: str
    schedule: str = "all"

    @property
    def label(self) -> str:
        """Short name: component, direction and persistence, and the schedule unless that is all steps."""
        name = f"{self.component} · {self.direction} · {self.persistence}"
        return name if self.schedule == "all" else f"{name} · {self.schedule}"

    @property
    def columns(self) -> dict[str, str]:
        """Its columns of a table's row."""
        return asdict(self)

    @property
    def moved(self) -> str:
        """What was moved where, as a clause."""
        return _MOVED.get(self.direction, f"direction {self.direction}")

    def recovered(self, fraction: T) -> T:
        """The part of the way from target to source: when repairing, 1 minus the fraction in the table."""
        return fraction.rest if self.direction == "repair" else fraction

    @property
    def ceiling(self) -> str | None:
        """How to read the last layer; None where the component does not hold the whole state."""
        if self.component != "resid_post" or self.direction not in _MOVED:
            return None
        end = "1" if self.direction == "corrupt" else "0"
        return (
            "Reading the last layer: there the patch replaces the whole state that is unembedded, so CTS is "
            f"near {end} for any fine-tune that hardly moved the final norm and the unembedding. "
            "It is a ceiling, not a finding."
        )

    def rows(self, scores: pl.DataFrame) -> pl.DataFrame:
        """The scores of this mode's single layers."""
        return self.every_row(single_layers(scores))

    def every_row(self, scores: pl.DataFrame) -> pl.DataFrame:
        """The rows of this mode in scores or statistics: of single layers, heads, windows and sets of sites."""
        return scores.filter(**self.columns)


def single_layers(scores: pl.DataFrame) -> pl.DataFrame:
    """Scores of patches of one site of one whole layer: no windows of layers, no heads, no sets of sites."""
    return scores.filter(ONE_LAYER)


def patched_layers(texts: pl.DataFrame) -> pl.DataFrame:
    """Rows of texts, or of their answers, under a patch of one whole layer at every step; none of steered texts."""
    return single_layers(texts).filter(pl.col("strength").is_null(), schedule="all")


def last_layer(layers: pl.Series, n_layers: int | None) -> int:
    """The model's last layer; the highest patched layer if the model's depth is not known."""
    return int(layers.max()) if n_layers is None else n_layers - 1  # type: ignore[arg-type]


def late_from(last: int) -> float:
    """The layer that is as deep in a model with this last layer as 28 of 36 in the paper (section 4.2, Table 2)."""
    return 28 / 36 * (last + 1)


def patched_direction(scores: pl.DataFrame) -> Direction:
    """The direction of the texts that are called `patched`: repair if only that direction was patched.

    If both directions were patched, texts of the direction repair are called `repaired`.
    """
    return "repair" if set(scores["direction"]) == {"repair"} else "corrupt"


def modes(scores: pl.DataFrame) -> list[PatchMode]:
    """The modes in the scores of single layers, in a fixed order."""
    return every_mode(single_layers(scores))


def by_mode(scores: pl.DataFrame, domains: Mapping[str, str]) -> Iterator[tuple[str, PatchMode, pl.DataFrame]]:
    """The scores of single layers, domain by domain and mode by mode; the columns have `domain` too.

    Raises ValueError for a prompt that `domains` lacks.
    """
    known = single_layers(with_domain(scores, domains))
    for domain in ordered_domains(known["domain"]):
        of_domain = known.filter(domain=domain)
        for mode in every_mode(of_domain):
            yield domain, mode, mode.every_row(of_domain)


def every_mode(scores: pl.DataFrame) -> list[PatchMode]:
    """All modes in the scores, also of heads, windows and sets of sites, in a fixed order."""
    return [PatchMode(*row) for row in scores.select(KEYS).unique().sort(KEYS).iter_rows()]


def chosen_mode(found: Sequence[PatchMode]) -> PatchMode:
    """The only mode; raises ValueError if there is none, or with their names if there are several."""
    if not found:
        raise ValueError("there are no scores of single layers to draw")
    if len(found) > 1:
        raise ValueError(f"choose a mode with mode=…: {'; '.join(map(str, found))}")
    return found[0]
