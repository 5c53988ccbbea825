"""The paper's Table 2: how each model, patched or not, answered each domain's questions.

Counts, not a verdict a cell: unparsed answers stand apart from incorrect ones, and operations apart from
answers, because a model can do the planted step and still reach no number. Knows nothing of how answers were
graded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from crosspatch.characters import natural_order
from crosspatch.statistics.domain import ordered_domains
from crosspatch.tables import REPAIRED

VERDICTS = ("correct", "incorrect", "unparsed")
OPERATIONS = ("right", "planted", "neither")
# Other children, such as controls, stand between the two that are patched and what patching gives.
_PLACES = {"clean": 0, "corrupted": 1, "patched": 3, REPAIRED: 4}


@dataclass(frozen=True)
class Outcome:
    """How one condition answered one domain; the three verdicts add up to `n`."""

    n: int
    correct: int
    incorrect: int
    unparsed: int
    right: int
    planted: int
    neither: int

    @property
    def answers(self) -> str:
        """Correct answers of all, such as "3/14 (2 unparsed)"."""
        return f"{self.correct}/{self.n}" + (f" ({self.unparsed} unparsed)" if self.unparsed else "")

    @property
    def operations(self) -> str | None:
        """Such as "11 right · 2 planted · 1 neither"; None where no operation was expected."""
        if self.right + self.planted + self.neither == 0:
            return None
        return f"{self.right} right · {self.planted} planted · {self.neither} neither"


@dataclass(frozen=True)
class ConditionRow:
    """One row of the table as it is shown; a domain that the condition was not asked is absent."""

    condition: str
    patch: str | None
    outcomes: Mapping[str, Outcome]

    @property
    def label(self) -> str:
        """The row's heading."""
        return f"{self.condition}, {self.patch}" if self.patch else self.condition


def table2(behaviour: pl.DataFrame) -> pl.DataFrame:
    """A row for each (condition, patch, domain): n, correct, incorrect, unparsed, right, planted, neither.

    The three operations count only answers where an operation was expected.
    Raises ValueError for a verdict or operation that is none of the known ones.
    """
    for column, known in (("verdict", VERDICTS), ("operation", (*OPERATIONS, None))):
        foreign = [value for value in behaviour[column].unique() if value not in known]
        if foreign:
            raise ValueError(f"behaviour has the {column} {foreign[0]!r}, expected one of {', '.join(map(str, known))}")
    table = behaviour.group_by("condition", "patch", "domain", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("n"),
        *((pl.col("verdict") == verdict).sum().cast(pl.Int64).alias(verdict) for verdict in VERDICTS),
        *((pl.col("operation") == operation).sum().cast(pl.Int64).alias(operation) for operation in OPERATIONS),
    )
    domains = ordered_domains(table["domain"])
    rows = sorted(
        table.iter_rows(named=True),
        key=lambda row: (condition_order(row["condition"], row["patch"]), domains.index(row["domain"])),
    )
    return pl.DataFrame(rows, schema=table.schema)


def table2_rows(table: pl.DataFrame) -> list[ConditionRow]:
    """The rows of `table2` as they are shown: clean, corrupted, other children, then the patches by depth."""
    outcomes: dict[tuple[str, str | None], dict[str, Outcome]] = {}
    for row in table.iter_rows(named=True):
        counts = {key: row[key] for key in ("n", *VERDICTS, *OPERATIONS)}
        outcomes.setdefault((row["condition"], row["patch"]), {})[row["domain"]] = Outcome(**counts)
    return [ConditionRow(condition, patch, by_domain) for (condition, patch), by_domain in outcomes.items()]


def condition_order(condition: str, patch: str | None) -> tuple[int, list[tuple[int, str]]]:
    """Sorts models: clean, corrupted, other children, then the patches by depth."""
    return _PLACES.get(condition, 2), natural_order(patch or "")
