"""All texts of a run, each with its question and all that is said of it, model by model.

A model is one of the clean, the corrupted and the other children, or what one patch makes of the model that it goes
into. Knows the run directory's tables, and no format of any other program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.data.problem import Problem
from crosspatch.errors import UsageError
from crosspatch.statistics.answers import condition_order
from crosspatch.statistics.profile import prompt_profile
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, GENERATIONS, HEALTH, RATINGS, REPAIRED, SCORES

# The stages in which models write.
_WRITING = ("teach", "search", "evaluate", "patch", "lenses")

Row = dict[str, Any]
_Key = tuple[str, str, str | None]


@dataclass(frozen=True)
class Text:
    """A text and its question; a row of each table that says something of it, None where none does.

    `row` is that of generations; `profile` has the measures of `prompt_profile`, for patched texts alone.
    """

    problem: Problem
    row: Row
    behaviour: Row | None = None
    health: Row | None = None
    ratings: Row | None = None
    profile: Row | None = None


@dataclass(frozen=True)
class ModelTexts:
    """What one model wrote, in the order in which it was asked."""

    condition: str
    patch: str | None
    texts: tuple[Text, ...]

    @property
    def name(self) -> str:
        """The condition, and the patch if there is one."""
        return f"{self.condition} {self.patch}" if self.patch else self.condition

    @property
    def moved(self) -> Row:
        """What was patched, and how; empty where nothing was."""
        for text in self.texts:
            if text.profile is not None:
                return {key: text.profile[key] for key in ("patch", "direction", "persistence")}
        return {}

    def rows(self, frame: pl.DataFrame) -> list[Row]:
        """The rows of a table that are about this model."""
        mine = (pl.col("condition") == self.condition) & pl.col("patch").eq_missing(pl.lit(self.patch, pl.String))
        return frame.filter(mine).to_dicts()


def texts_by_model(run: RunDirectory) -> list[ModelTexts]:
    """What the models of a run wrote: clean, corrupted, other children, then the patches by depth.

    Raises UsageError where a stage in which models write was begun and is not done, where there is no text, and
    where a text's question is not to be found.
    """
    stages = run.record()["stages"]
    for stage in _WRITING:
        if stage in stages and stages[stage]["state"] != "done":
            raise UsageError(
                f"the stage {stage} of {run.root} is {stages[stage]['state']}, not done: its texts are not all there; "
                "go on with the command that began it"
            )
    generations, problems = run.read(GENERATIONS), run.asked()
    if generations.is_empty():
        raise UsageError(f"{run.root} holds no texts yet; do `crosspatch evaluate` or `crosspatch patch` first")
    if foreign := sorted(set(generations["prompt_id"]) - problems.keys()):
        raise UsageError(f"no question is known for the prompt {foreign[0]} ({len(foreign)} such) in {run.root}/data")
    behaviour, health, ratings = (
        _by_text(frame) for frame in (run.read(BEHAVIOUR), run.read(HEALTH), run.read(RATINGS))
    )
    profile = _by_text(with_condition(prompt_profile(run.read(SCORES))))
    found: dict[tuple[str, str | None], list[Text]] = {}
    for key, row in _by_text(generations).items():
        said = (table.get(key) for table in (behaviour, health, ratings, profile))
        found.setdefault(key[1:], []).append(Text(problems[key[0]], row, *said))
    return [
        ModelTexts(*model, tuple(found[model])) for model in sorted(found, key=lambda model: condition_order(*model))
    ]


def with_condition(profile: pl.DataFrame) -> pl.DataFrame:
    """A profile with the condition of the texts that its scores are of, which depends on the direction."""
    second = (pl.col("direction") == "repair") & (pl.col("direction").n_unique() > 1)
    return profile.with_columns(condition=pl.when(second).then(pl.lit(REPAIRED)).otherwise(pl.lit("patched")))


def _by_text(frame: pl.DataFrame) -> dict[_Key, Row]:
    return {(row["prompt_id"], row["condition"], row["patch"]): row for row in frame.iter_rows(named=True)}
