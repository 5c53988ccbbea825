"""The heatmap of one prompt: layers upwards, generation steps rightwards, CTS in each cell that has one.

Validated data, ready to draw, and what has to be said beside it. Each layer generates its own text, so rows
end at different steps and a column holds different tokens. It is drawn by `print` for paper and by the page's own
script, in a notebook too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from crosspatch.statistics.patch_mode import PatchMode, chosen_mode, modes, single_layers
from crosspatch.tables import SCORES

# One colour range for all heatmaps, so that a colour means the same in each; beyond it a cell is marked.
CTS_RANGE = 1.5
STATUSES = ("ok", "agree", "small_denominator", "unscheduled")


@dataclass(frozen=True, eq=False)
class Heatmap:
    """The scores of one prompt under one mode: `cells` has a row for each (layer, step) that was reached.

    Raises ValueError for rows of several prompts or modes, for a cell that stands there twice, and for a
    CTS where the status says that there is none (or none where it says there is one).
    """

    prompt_id: str
    mode: PatchMode
    cells: pl.DataFrame
    question: str | None = None

    def __post_init__(self) -> None:
        cells = self.cells
        lacking = [column for column in SCORES.columns if column not in cells.columns]
        if lacking:
            raise ValueError(f"a heatmap needs the columns of scores, got none named {', '.join(lacking)}")
        if cells.is_empty():
            raise ValueError(f"prompt {self.prompt_id!r} has no scores of single layers to draw")
        if cells.height != self.mode.rows(cells.filter(pl.col("prompt_id") == self.prompt_id)).height:
            raise ValueError(f"a heatmap holds one prompt and one mode, got rows beside {self.prompt_id!r}")
        check_cells(cells)
        object.__setattr__(self, "cells", cells.sort("layer", "step"))

    @classmethod
    def of(
        cls,
        scores: pl.DataFrame,
        prompt_id: str | None = None,
        *,
        mode: PatchMode | None = None,
        question: str | None = None,
    ) -> Heatmap:
        """The heatmap of one prompt out of any scores; without `prompt_id` the first prompt's.

        Raises ValueError where the prompt has no scores, or several modes and none was chosen.
        """
        scores = single_layers(scores)
        if prompt_id is None:
            if scores.is_empty():
                raise ValueError("there are no scores of single layers to draw")
            prompt_id = scores["prompt_id"][0]
        rows = scores.filter(pl.col("prompt_id") == prompt_id)
        if mode is None:
            found = modes(rows)
            if not found:
                raise ValueError(f"no scores of single layers for prompt {prompt_id!r}")
            mode = chosen_mode(found)
        return cls(prompt_id, mode, mode.rows(rows), question)

    @property
    def layers(self) -> list[int]:
        """The layers, lowest first; they need not be neighbours."""
        return self.cells["layer"].unique().sort().to_list()

    @property
    def steps(self) -> list[int]:
        """All steps from the first to the last that any layer reached."""
        first, last = self.cells.select(first=pl.col("step").min(), last=pl.col("step").max()).row(0)
        return list(range(first, last + 1))

    @property
    def reference_tokens(self) -> dict[int, str]:
        """Step to token in the last layer's own text, whose tokens stand under the axis."""
        last = self.cells.filter(pl.col("layer") == self.layers[-1])
        return dict(zip(last["step"], last["token"], strict=True))

    def notes(self) -> list[str]:
        """What must be said beside the picture, as sentences out of the numbers."""
        counts = [int((self.cells["status"] == status).sum()) for status in STATUSES]
        return cell_notes(counts, self.cells["cts"]) + ([self.mode.ceiling] if self.mode.ceiling else [])


def cell_notes(counts: Sequence[int], cts: pl.Series) -> list[str]:
    """How many cells are of each of STATUSES, and which CTS the colours do not show, as sentences."""
    total = sum(counts)
    ok, agree, small, resting = counts
    sentence = f"{ok:,} of {total:,} cells have a CTS" if ok else f"None of the {total:,} cells has a CTS"
    if agree:
        sentence += f"; in {agree:,} both models want the same token"
    if small:
        sentence += f"; in {small:,} they differ by too little to divide by"
    if resting:
        sentence += f"; in {resting:,} the schedule rested"
    notes = [sentence + "."]
    beyond = cts.filter(cts.abs() > CTS_RANGE).to_list()
    if beyond:
        low, high = min(beyond), max(beyond)
        extremes = f"{low:.2f}" if len(beyond) == 1 else f"from {low:.2f} to {high:.2f}"
        extremes = extremes.replace("-", "−")
        lie = "1 CTS lies" if len(beyond) == 1 else f"{len(beyond):,} CTS values lie"
        notes.append(f"{lie} beyond the colour range of ±{CTS_RANGE} ({extremes}), marked with a triangle.")
    return notes


def check_cells(cells: pl.DataFrame) -> None:
    """Refuse scores that cannot be drawn: raises ValueError.

    For a patch's cell that stands there twice, a status that is none, and a CTS that is missing where the status says
    that there is one, there where it says that there is none, or not finite.
    """
    keys = ["prompt_id", "patch", "direction", "persistence", "step"]
    twice = cells.filter(cells.select(keys).is_duplicated())
    if not twice.is_empty():
        prompt_id, patch, step = twice.select("prompt_id", "patch", "step").row(0)
        raise ValueError(f"{patch}, step {step} of prompt {prompt_id!r} stands there twice")
    foreign = sorted(set(cells["status"]) - set(STATUSES))
    if foreign:
        raise ValueError(f"got the status {foreign[0]!r}, expected one of {', '.join(STATUSES)}")
    if not (cells["cts"].is_not_null() == (cells["status"] == "ok")).all():
        raise ValueError("CTS must be there where the status is ok, and null elsewhere")
    if not cells["cts"].drop_nulls().is_finite().all():
        raise ValueError("a CTS is not finite")
