"""The heatmap of one prompt: layers upwards, generation steps rightwards, CTS in each cell that has one.

Each layer generates its own text, so rows end at different steps and the tokens of a column differ. `print` draws the
heatmap for paper, and the page's script in a browser or notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from crosspatch.statistics.patch_mode import PatchMode, chosen_mode, modes, single_layers
from crosspatch.tables import SCORES

# All heatmaps share this colour range; a cell beyond it is marked.
CTS_RANGE = 1.5
STATUSES = ("ok", "agree", "small_denominator", "unscheduled")


@dataclass(frozen=True, eq=False)
class Heatmap:
    """The scores of one prompt under one mode; `cells` has a row for each generated (layer, step)."""

    prompt_id: str
    mode: PatchMode
    cells: pl.DataFrame
    question: str | None = None

    @classmethod
    def of(
        cls,
        scores: pl.DataFrame,
        prompt_id: str | None = None,
        *,
        mode: PatchMode | None = None,
        question: str | None = None,
    ) -> Heatmap:
        """The heatmap of one prompt of a table of scores (None: the first prompt).

        Raises ValueError if the prompt has no scores of single layers, if it has several modes and none was chosen, and
        for cells that `check_cells` refuses.
        """
        lacking = [column for column in SCORES.columns if column not in scores.columns]
        if lacking:
            raise ValueError(f"a heatmap needs the columns of scores, got none named {', '.join(lacking)}")
        scores = single_layers(scores)
        if prompt_id is None:
            prompt_id = next(iter(scores["prompt_id"]), "")
        rows = scores.filter(pl.col("prompt_id") == prompt_id)
        if rows.is_empty():
            raise ValueError(f"there are no scores of single layers to draw for prompt {prompt_id!r}")
        mode = mode or chosen_mode(modes(rows))
        cells = mode.rows(rows)
        if cells.is_empty():
            raise ValueError(f"prompt {prompt_id!r} has no scores of single layers as {mode.label}")
        check_cells(cells)
        return cls(str(prompt_id), mode, cells.sort("layer", "step"), question)

    @property
    def layers(self) -> list[int]:
        """The layers, lowest first; they need not be consecutive."""
        return self.cells["layer"].unique().sort().to_list()

    @property
    def steps(self) -> list[int]:
        """All steps from the first to the last that any layer reached."""
        first, last = self.cells.select(first=pl.col("step").min(), last=pl.col("step").max()).row(0)
        return list(range(first, last + 1))

    @property
    def reference_tokens(self) -> dict[int, str]:
        """Step to token in the text of the last layer; these tokens label the axis."""
        last = self.cells.filter(pl.col("layer") == self.layers[-1])
        return dict(zip(last["step"], last["token"], strict=True))

    def notes(self) -> list[str]:
        """The sentences beside the picture."""
        counts = [int((self.cells["status"] == status).sum()) for status in STATUSES]
        return cell_notes(counts, self.cells["cts"]) + ([self.mode.ceiling] if self.mode.ceiling else [])


def cell_notes(counts: Sequence[int], cts: pl.Series) -> list[str]:
    """Sentences on the `counts` of cells by status, in the order of STATUSES, and on CTS beyond the colour range."""
    total = sum(counts)
    ok, agree, small, unscheduled = counts
    sentence = f"{ok:,} of {total:,} cells have a CTS" if ok else f"None of the {total:,} cells has a CTS"
    if agree:
        sentence += f"; in {agree:,} both models predict the same token"
    if small:
        sentence += f"; in {small:,} they differ by too little to divide by"
    if unscheduled:
        sentence += f"; in {unscheduled:,} nothing was patched"
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
    """Raises ValueError for scores that cannot be drawn.

    The reasons are a cell that occurs twice, an unknown status, a CTS that is not finite, a CTS that is missing where
    the status is ok, and one that is there where the status is another.
    """
    keys = ["prompt_id", "patch", "direction", "persistence", "step"]
    twice = cells.filter(cells.select(keys).is_duplicated())
    if not twice.is_empty():
        prompt_id, patch, step = twice.select("prompt_id", "patch", "step").row(0)
        raise ValueError(f"{patch}, step {step} of prompt {prompt_id!r} occurs twice; expected one row for each cell")
    foreign = sorted(set(cells["status"]) - set(STATUSES))
    if foreign:
        raise ValueError(f"got the status {foreign[0]!r}, expected one of {', '.join(STATUSES)}")
    if not (cells["cts"].is_not_null() == (cells["status"] == "ok")).all():
        raise ValueError("CTS must be a number where the status is ok, and null elsewhere")
    if not cells["cts"].drop_nulls().is_finite().all():
        raise ValueError("a CTS is not finite")
