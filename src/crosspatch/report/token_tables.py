"""The page's tables of tokens: by class, by labelled place of the mistake, and token by token.

Knows nothing of the template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.statistics.domain import domain_title
from crosspatch.statistics.interval import Interval

_MEASURES = (
    ("share_of_disagreements", "value"),
    ("disagreement_rate", "value"),
    ("disagreement_rate", "excess"),
    ("recovered_fraction", "value"),
    ("recovered_fraction", "excess"),
)
_BY = {"class": "by class of token", "span": "along wrong solutions, by what is wrong"}
# Tokens of each domain and mode that are shown one by one, and how often one has to have been written.
_WORDS, _OFTEN = 12, 5


@dataclass(frozen=True)
class TokenRow:
    """A class and its cells as they are shown."""

    name: str
    cells: tuple[str, ...]


def token_tables(tokens: pl.DataFrame) -> list[tuple[str, list[TokenRow]]]:
    """A titled table for each domain, mode and way of telling tokens apart (see tables.TOKENS)."""
    whole = tokens.filter(pl.col("layer").is_null(), ~pl.col("late"))
    keys = ["by", "domain", "component", "direction", "persistence", "schedule"]
    tables = []
    for (by, domain, component, direction, *_), part in whole.partition_by(
        keys, as_dict=True, maintain_order=True
    ).items():
        title = f"{domain_title(domain)}, {_BY.get(by, by)} ({component} {direction})"
        rows = [_row(name, of) for (name,), of in part.partition_by("class", as_dict=True, maintain_order=True).items()]
        tables.append((title, rows))
    return tables


def _row(name: str, rows: pl.DataFrame) -> TokenRow:
    by_measure = {(row["measure"], row["contrast"]): row for row in rows.iter_rows(named=True)}
    cells = []
    for measure, contrast in _MEASURES:
        row = by_measure.get((measure, contrast))
        cells.append("" if row is None else str(Interval.of_row(row)))
        if contrast == "excess":
            cells.append("" if row is None or row["p_value"] is None else f"{row['p_value']:.2g}")
    return TokenRow(name, tuple(cells))


def frequent_words(words: pl.DataFrame) -> list[dict[str, Any]]:
    """The tokens that score highest as the published scores count, of those that were written often enough."""
    often = words.filter(pl.col("positions") >= _OFTEN, pl.col("disagreements") > 0)
    keys = ["domain", "component", "direction", "persistence", "schedule"]
    return often.group_by(keys, maintain_order=True).head(_WORDS).to_dicts()
