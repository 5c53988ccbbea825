"""Answers of patched and unpatched models: the paper's Table 2, comparisons between models, and faults of texts.

Unparsed and incorrect answers are counted separately. Operations are counted too, because a text can have the planted
operation but no final number. Every model and patch is compared with the clean and the corrupted model on the questions
that both answered: how many answers were lost, how many were gained, and the p-value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.characters import natural_order
from crosspatch.data.problem import Problem
from crosspatch.statistics.domain import ordered_domains
from crosspatch.statistics.interval import sign_test, wilson
from crosspatch.tables import COMPARISONS, REPAIRED

VERDICTS = ("correct", "incorrect", "unparsed")
OPERATIONS = ("right", "planted", "neither")
# Other children, such as controls, are sorted after the clean and the corrupted model and before the patches.
_PLACES = {"clean": 0, "corrupted": 1, "patched": 3, REPAIRED: 4}


@dataclass(frozen=True)
class Outcome:
    """The answers of one condition in one domain; the three verdicts add up to `n`."""

    n: int
    correct: int
    incorrect: int
    unparsed: int
    right: int
    planted: int
    neither: int

    @property
    def answers(self) -> str:
        """The number of correct answers, such as "3/14 (2 unparsed)"."""
        return f"{self.correct}/{self.n}" + (f" ({self.unparsed} unparsed)" if self.unparsed else "")

    @property
    def operations(self) -> str | None:
        """The operations, such as "11 right · 2 planted · 1 neither"; None if no operation was expected."""
        if self.right + self.planted + self.neither == 0:
            return None
        return f"{self.right} right · {self.planted} planted · {self.neither} neither"


@dataclass(frozen=True)
class ConditionRow:
    """One row of the report's table of answers; a domain is missing if the model got no questions of it."""

    condition: str
    patch: str | None
    outcomes: Mapping[str, Outcome]

    @property
    def label(self) -> str:
        """The row's heading."""
        return f"{self.condition}, {self.patch}" if self.patch else self.condition


def table2(behaviour: pl.DataFrame) -> pl.DataFrame:
    """Count n, correct, incorrect, unparsed, right, planted and neither by (condition, patch, domain).

    Operations are counted only for answers where an operation was expected. Raises ValueError for an unknown verdict or
    operation.
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
    """Group `table2` into rows for the report: clean, corrupted, other children, then the patches by depth."""
    outcomes: dict[tuple[str, str | None], dict[str, Outcome]] = {}
    for row in table.iter_rows(named=True):
        counts = {key: row[key] for key in ("n", *VERDICTS, *OPERATIONS)}
        outcomes.setdefault((row["condition"], row["patch"]), {})[row["domain"]] = Outcome(**counts)
    return [ConditionRow(condition, patch, by_domain) for (condition, patch), by_domain in outcomes.items()]


def condition_order(condition: str, patch: str | None) -> tuple[int, list[tuple[int, str]]]:
    """Return a sort key for models: clean, corrupted, other children, then the patches by depth."""
    return _PLACES.get(condition, 2), natural_order(patch or "")


_KEY = ("condition", "patch", "domain")
_PATCHED = ("component", "layer", "head", "schedule", "window", "strength")
# For each outcome: whether an answer has it, and whether the answer counts. Unparsed answers count as not correct;
# answers without an expected operation do not count for `planted`.
OUTCOMES = {
    "correct": (pl.col("verdict") == "correct", pl.lit(True)),
    "planted": (pl.col("operation") == "planted", pl.col("operation").is_not_null()),
}
REFERENCES = ("clean", "corrupted")


def comparisons(behaviour: pl.DataFrame) -> pl.DataFrame:
    """Compare each model or patch with each reference model, by domain and outcome: see tables.COMPARISONS.

    The interval is Wilson's; `p_value` is the exact p-value of McNemar's test on the questions that both answered.
    """
    domains = ordered_domains(behaviour["domain"])
    rows: list[dict[str, Any]] = []
    for outcome, (happened, counted) in OUTCOMES.items():
        judged = behaviour.filter(counted).select(*_KEY, *_PATCHED, "prompt_id", happened.alias("yes"))
        unpatched = judged.filter(pl.col("patch").is_null())
        parts = judged.partition_by(_KEY, as_dict=True)
        for key in sorted(parts, key=lambda key: (condition_order(key[0], key[1]), domains.index(key[2]))):
            part, (condition, patch, domain) = parts[key], key
            count = int(part["yes"].sum())
            fixed = {
                **part.select(_PATCHED).row(0, named=True),
                **dict(zip(_KEY, key, strict=True)),
                "outcome": outcome,
                "count": count,
                "n": part.height,
                **wilson(count, part.height).columns,
            }
            found = [
                {"against": name, **_pairs(part, other)}
                for name in REFERENCES
                if (condition, patch) != (name, None)
                and not (other := unpatched.filter(condition=name, domain=domain)).is_empty()
            ]
            # Without a reference model there is one row, whose comparison is null.
            rows += [{**fixed, **pairs} for pairs in found or [dict.fromkeys(_PAIRS)]]
    return COMPARISONS.frame(rows)


_PAIRS = ("against", "pairs", "there", "lost", "gained", "p_value")


def _pairs(part: pl.DataFrame, other: pl.DataFrame) -> dict[str, Any]:
    """Count answers lost and gained relative to a reference model, on the questions that both answered."""
    both = part.join(other, on="prompt_id", suffix="_other")
    own, others = both["yes"], both["yes_other"]
    lost, gained = int((others & ~own).sum()), int((own & ~others).sum())
    counts = {"pairs": both.height, "there": int(others.sum()), "lost": lost, "gained": gained}
    return {**counts, "p_value": sign_test(lost, gained)}


def accuracy(behaviour: pl.DataFrame, problems: Mapping[str, Problem]) -> pl.DataFrame:
    """Count right answers of unpatched models: columns condition, domain, form, correct, n, share.

    Models are in the order in which they answered. `form` is null for questions that come from a benchmark suite
    instead of being generated. Raises ValueError for a prompt that is not in `problems`.
    """
    unpatched = behaviour.filter(pl.col("patch").is_null())
    if foreign := sorted(set(unpatched["prompt_id"]) - problems.keys()):
        raise ValueError(f"got no problem for the prompt {foreign[0]!r} ({len(foreign)} in total); pass all problems")
    forms = pl.DataFrame(
        {"prompt_id": list(problems), "form": [problem.form or None for problem in problems.values()]},
        schema={"prompt_id": pl.String, "form": pl.String},
    )
    counted = (
        unpatched.join(forms, on="prompt_id", how="left")
        .group_by("condition", "domain", "form", maintain_order=True)
        .agg(correct=(pl.col("verdict") == "correct").sum().cast(pl.Int64), n=pl.len().cast(pl.Int64))
        .with_columns(share=pl.col("correct") / pl.col("n"))
    )
    models = {name: place for place, name in enumerate(unpatched["condition"].unique(maintain_order=True))}
    domains = {name: place for place, name in enumerate(ordered_domains(unpatched["domain"]))}
    return counted.sort(
        pl.col("condition").replace_strict(models, return_dtype=pl.Int64),
        pl.col("domain").replace_strict(domains, return_dtype=pl.Int64),
        "form",
        maintain_order=True,
    )


# Faults of the text itself. `cut_off` is not among them, since it may be due to the token limit.
MALFORMED = ("looped", "backslash_runs", "escaped_newlines", "unclosed", "unparsable")


def output_health(health: pl.DataFrame) -> pl.DataFrame:
    """Compute the share of texts with each fault for each model or patch: condition, patch, texts, `malformed`, faults.

    `malformed` is the share of texts with any fault except `cut_off`.
    """
    malformed = pl.any_horizontal(pl.col(name) > 0 for name in MALFORMED)
    return health.group_by("condition", "patch", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("texts"),
        malformed.mean().alias("malformed"),
        *((pl.col(name) > 0).mean().alias(name) for name in (*MALFORMED, "cut_off")),
    )


def mean_ratings(ratings: pl.DataFrame) -> pl.DataFrame:
    """Average the ratings by condition and patch, over the answers that have both ratings (`rated` of `answers`).

    A mean is null if no answer has both ratings.
    """
    both = pl.col("aligned").is_not_null() & pl.col("coherent").is_not_null()
    return ratings.group_by("condition", "patch", maintain_order=True).agg(
        pl.col("aligned").filter(both).mean(),
        pl.col("coherent").filter(both).mean(),
        both.sum().alias("rated"),
        pl.len().alias("answers"),
    )
