"""The tables of the report, for the page and for Markdown: titles, columns and cells as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.characters import visible
from crosspatch.statistics.answers import ConditionRow, Outcome
from crosspatch.statistics.domain import domain_title, ordered_domains
from crosspatch.statistics.interval import Interval
from crosspatch.statistics.patch_mode import KEYS

# The number of tokens listed for each domain and mode, and how often a listed token was generated at least.
_WORDS, _OFTEN = 12, 5


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """A number with three decimals."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


# Columns of a frame, each with its title and the form in which its values are shown.
Columns = Mapping[str, tuple[str, Callable[[Any], str]]]


@dataclass(frozen=True)
class Table:
    """Rows of texts under the names of columns; the first text of a row is its heading."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @classmethod
    def of(cls, name: str, rows: pl.DataFrame, columns: Columns) -> Table:
        """Some columns of a frame."""
        texts = [[form(row[key]) for key, (_, form) in columns.items()] for row in rows.iter_rows(named=True)]
        return cls(name, [title for title, _ in columns.values()], texts)


# The counts of a depth profile.
PROFILE: Columns = {
    "positions": ("positions", str),
    "disagreements": ("disagree", str),
    "disagreement_rate": ("rate", percent),
    "ok_cells": ("with CTS", str),
    "small_denominators": ("too small", str),
    "outside_unit": ("outside [0, 1]", str),
    "mean_cts": ("mean CTS", number),
    "recovered_fraction": ("recovered fraction", number),
}


def depth_table(profile: pl.DataFrame, name: str) -> Table:
    """The counts of a depth profile, layer by layer."""
    place: Columns = {"domain": ("domain", domain_title), "prompts": ("prompts", str), "layer": ("layer", str)}
    return Table.of(name, profile, {**place, **PROFILE})


def variants_table(searched: pl.DataFrame) -> Table:
    """The variants of a search (see tables.VARIANTS)."""
    name = pl.col("variant") + pl.when("chosen").then(pl.lit(" (chosen)")).otherwise(pl.lit(""))
    flipped = pl.format("{}/{}", "flipped", "right_clean")
    return Table.of(
        "variants",
        searched.with_columns(name.alias("variant"), flipped.alias("flipped")),
        {
            "variant": ("variant", str),
            "method": ("method", str),
            "examples": ("examples", str),
            "epochs": ("epochs", str),
            "learning_rate": ("rate", str),
            "steps": ("steps", str),
            "train_loss": ("train loss", number),
            "eval_loss": ("eval loss", number),
            "divergence": ("divergence", number),
            "flipped": ("flipped to wrong", str),
            "planted": ("planted", percent),
            "math_drop": ("lost: maths", percent),
            "general_drop": ("general", percent),
            "malformed": ("malformed", percent),
            "looped": ("looped", percent),
            "backslash_runs": ("backslashes", percent),
            "escaped_newlines": ("escaped newlines", percent),
            "unclosed": ("unclosed", percent),
            "unparsable": ("unparsable", percent),
            "no_end": ("no end", percent),
            "unparsed": ("unread", percent),
            "status": ("status", str),
            "reason": ("why", str),
        },
    )


def token_tables(tokens: pl.DataFrame) -> Iterator[Table]:
    """A table for each domain, mode and grouping of tokens: by class, or by labelled mistake (see tables.TOKENS)."""
    whole = tokens.filter(pl.col("layer").is_null(), ~pl.col("late"))
    ways = {"class": "by class of token", "span": "along wrong solutions, by what is wrong"}
    columns = [
        "class",
        "share of disagreements",
        "disagreement rate",
        "excess",
        "p",
        "recovered fraction",
        "excess",
        "p",
    ]
    keys = ["by", "domain", *KEYS]
    for (by, domain, component, direction, *_), part in whole.partition_by(
        keys, as_dict=True, maintain_order=True
    ).items():
        title = f"{domain_title(domain)}, {ways.get(by, by)} ({component} {direction})"
        rows = part.partition_by("class", as_dict=True, maintain_order=True)
        yield Table(title, columns, [[name, *_measures(of)] for (name,), of in rows.items()])


def _measures(rows: pl.DataFrame) -> Iterator[str]:
    by_measure = {(row["measure"], row["contrast"]): row for row in rows.iter_rows(named=True)}
    yield _interval(by_measure.get(("share_of_disagreements", "value")))
    for measure in ("disagreement_rate", "recovered_fraction"):
        excess = by_measure.get((measure, "excess"))
        yield _interval(by_measure.get((measure, "value")))
        yield _interval(excess)
        yield "" if excess is None or excess["p_value"] is None else f"{excess['p_value']:.2g}"


def _interval(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else str(Interval.of_row(row))


def words_table(words: pl.DataFrame) -> Table:
    """The frequent tokens with the highest published scores (see tables.WORDS)."""
    often = words.filter(pl.col("positions") >= _OFTEN, pl.col("disagreements") > 0)
    keys = ["domain", *KEYS]
    return Table.of(
        "token by token",
        often.group_by(keys, maintain_order=True).head(_WORDS),
        {
            "domain": ("domain", domain_title),
            "token": ("token", visible),
            "positions": ("written", str),
            "prompts": ("prompts", str),
            "disagreements": ("disagree", str),
            "disagreement_rate": ("rate", percent),
            "mean_cts": ("mean CTS there", number),
            "published_cts": ("published CTS", number),
        },
    )


@dataclass(frozen=True)
class AnswerCell:
    """One model's answers in one domain (None: not asked), and the lines of text in the cell."""

    outcome: Outcome | None
    texts: Sequence[str]


@dataclass(frozen=True)
class AnswerTable:
    """Table 2: a row for each model or patch, with a cell for each domain, and its malformed texts if counted."""

    name: str
    columns: Sequence[str]
    rows: Sequence[tuple[ConditionRow, Sequence[AnswerCell], str]]

    @classmethod
    def of(
        cls,
        rows: Sequence[ConditionRow],
        name: str = "table 2",
        compared: Mapping[tuple[str, str | None, str], str] | None = None,
        malformed: Mapping[tuple[str, str | None], str] | None = None,
    ) -> AnswerTable:
        """`compared` has a line of text by model and domain, `malformed` the malformed texts by model."""
        domains = ordered_domains(domain for row in rows for domain in row.outcomes)
        columns = [domain_title(domain) for domain in domains] + (["Malformed texts"] if malformed else [])
        found = []
        for row in rows:
            cells = []
            for domain in domains:
                outcome = row.outcomes.get(domain)
                beside = (compared or {}).get((row.condition, row.patch, domain))
                texts = ["not asked"] if outcome is None else [outcome.answers, outcome.operations, beside]
                cells.append(AnswerCell(outcome, [text for text in texts if text]))
            found.append((row, cells, malformed.get((row.condition, row.patch), "–") if malformed else ""))
        return cls(name, columns, found)
