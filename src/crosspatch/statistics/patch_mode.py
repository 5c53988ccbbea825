"""Patch modes: how single layers were patched (component, direction, persistence, schedule).

Scores of different modes are never pooled: each chart and average covers one mode.
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

# The columns that identify a mode in tables of scores and statistics.
KEYS = ("component", "direction", "persistence", "schedule")
_MOVED = {
    "corrupt": "the corrupted model's activations patched into the clean model",
    "repair": "the clean model's activations patched into the corrupted model",
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
        """A short name: component, direction and persistence, and the schedule unless it is `all`."""
        name = f"{self.component} · {self.direction} · {self.persistence}"
        return name if self.schedule == "all" else f"{name} · {self.schedule}"

    @property
    def columns(self) -> dict[str, str]:
        """The mode's values for the columns of a table row."""
        return asdict(self)

    @property
    def moved(self) -> str:
        """A description of the patch: whose activations were patched into which model."""
        return _MOVED.get(self.direction, f"direction {self.direction}")

    def recovered(self, fraction: T) -> T:
        """Convert a fraction to the target-to-source scale: in the repair direction, 1 minus the table's fraction."""
        return fraction.rest if self.direction == "repair" else fraction

    @property
    def ceiling(self) -> str | None:
        """A note on how to read the last layer; None if the component is not the whole residual stream."""
        if self.component != "resid_post" or self.direction not in _MOVED:
            return None
        end = "1" if self.direction == "corrupt" else "0"
        return (
            "Reading the last layer: there the patch replaces the whole state that is unembedded, so CTS is "
            f"near {end} for any fine-tune that hardly changed the final norm and the unembedding. "
            "It is a ceiling, not a finding."
        )

    def rows(self, scores: pl.DataFrame) -> pl.DataFrame:
        """Select the scores of single layers in this mode."""
        return self.every_row(single_layers(scores))

    def every_row(self, scores: pl.DataFrame) -> pl.DataFrame:
        """Select this mode's rows in scores or statistics, including heads, windows and sets of sites."""
        return scores.filter(**self.columns)


def single_layers(scores: pl.DataFrame) -> pl.DataFrame:
    """Select the scores of patches at one site of one layer: no heads, no windows, no sets of sites."""
    return scores.filter(ONE_LAYER)


def patched_layers(texts: pl.DataFrame) -> pl.DataFrame:
    """Select rows of texts (or answers) under a patch of one layer at every step; steered texts are excluded."""
    return single_layers(texts).filter(pl.col("strength").is_null(), schedule="all")


def last_layer(layers: pl.Series, n_layers: int | None) -> int:
    """Return the model's last layer, or the highest patched layer if the model's depth is unknown."""
    return int(layers.max()) if n_layers is None else n_layers - 1  # type: ignore[arg-type]


def late_from(last: int) -> float:
    """Scale the paper's depth, 28 of 36 layers (section 4.2, Table 2), to a model with this last layer."""
    return 28 / 36 * (last + 1)


def patched_direction(scores: pl.DataFrame) -> Direction:
    """Return the direction of texts with the condition `patched`: repair if only that direction was patched.

    If both directions were patched, texts in the direction repair have the condition `repaired`.
    """
    return "repair" if set(scores["direction"]) == {"repair"} else "corrupt"


def modes(scores: pl.DataFrame) -> list[PatchMode]:
    """Return the modes in the scores of single layers, in a fixed order."""
    return every_mode(single_layers(scores))


def by_mode(scores: pl.DataFrame, domains: Mapping[str, str]) -> Iterator[tuple[str, PatchMode, pl.DataFrame]]:
    """Yield the scores of single layers by domain and mode, with an added column `domain`.

    Raises ValueError for a prompt that is not in `domains`.
    """
    known = single_layers(with_domain(scores, domains))
    for domain in ordered_domains(known["domain"]):
        of_domain = known.filter(domain=domain)
        for mode in every_mode(of_domain):
            yield domain, mode, mode.every_row(of_domain)


def every_mode(scores: pl.DataFrame) -> list[PatchMode]:
    """Return all modes in the scores, including heads, windows and sets of sites, in a fixed order."""
    return [PatchMode(*row) for row in scores.select(KEYS).unique().sort(KEYS).iter_rows()]


def chosen_mode(found: Sequence[PatchMode]) -> PatchMode:
    """Return the only mode; raises ValueError if there is no mode, or several."""
    if not found:
        raise ValueError("there are no scores of single layers to draw")
    if len(found) > 1:
        raise ValueError(f"got several modes; choose one with mode=…: {'; '.join(map(str, found))}")
    return found[0]
