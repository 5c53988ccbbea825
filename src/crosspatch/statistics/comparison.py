"""Table 2 in full: shares of right answers and planted operations, with intervals, compared question by question.

Every model and patch is held against the clean model, and against the corrupted one, on the questions that both were
asked: how many answers were lost, how many gained, and how likely that is by chance. Knows nothing of how answers were
graded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from crosspatch.statistics.domain import ordered_domains
from crosspatch.statistics.interval import sign_test, wilson
from crosspatch.statistics.table2 import condition_order
from crosspatch.tables import COMPARISONS

_KEY = ("condition", "patch", "domain")
_PATCHED = ("component", "layer", "head", "schedule", "window", "strength")
# What is counted, and among which answers: unparsed ones are not right, but no operation can be asked of some.
OUTCOMES = {
    "correct": (pl.col("verdict") == "correct", pl.lit(True)),
    "planted": (pl.col("operation") == "planted", pl.col("operation").is_not_null()),
}
REFERENCES = ("clean", "corrupted")


def comparisons(behaviour: pl.DataFrame) -> pl.DataFrame:
    """A row for each model or patch, domain, outcome and reference model: see tables.COMPARISONS.

    The interval is Wilson's; `chance` is the exact p-value of McNemar's test on the questions that both answered.
    """
    domains = ordered_domains(behaviour["domain"])
    rows: list[dict[str, Any]] = []
    for outcome, (happened, counted) in OUTCOMES.items():
        judged = behaviour.filter(counted).select(*_KEY, *_PATCHED, "prompt_id", happened.alias("yes"))
        parts = sorted(
            judged.partition_by(_KEY, as_dict=True).items(),
            key=lambda part: (condition_order(part[0][0], part[0][1]), domains.index(part[0][2])),
        )
        for (condition, patch, domain), part in parts:
            share = wilson(int(part["yes"].sum()), part.height)
            fixed = {
                **part.select(_PATCHED).row(0, named=True),
                "condition": condition,
                "patch": patch,
                "domain": domain,
                "outcome": outcome,
                "count": int(part["yes"].sum()),
                "n": part.height,
                **share.columns,
            }
            rows += [{**fixed, **pairs} for pairs in _against(part, judged.filter(domain=domain), condition, patch)]
    return COMPARISONS.frame(rows)


def _against(part: pl.DataFrame, judged: pl.DataFrame, condition: str, patch: str | None) -> Iterator[dict[str, Any]]:
    """What was lost and gained against each reference model; one row without where there is none to compare with."""
    found = False
    for reference in REFERENCES:
        other = judged.filter(pl.col("condition") == reference, pl.col("patch").is_null())
        if other.is_empty() or (condition == reference and patch is None):
            continue
        both = part.join(other, on="prompt_id", suffix="_other")
        lost, gained = ((both["yes"] != both["yes_other"]) & both[name] for name in ("yes_other", "yes"))
        counts = int(lost.sum()), int(gained.sum())
        found = True
        yield {
            "against": reference,
            "pairs": both.height,
            "there": int(both["yes_other"].sum()),
            "lost": counts[0],
            "gained": counts[1],
            "chance": sign_test(*counts),
        }
    if not found:
        yield dict.fromkeys(("against", "pairs", "there", "lost", "gained", "chance"))
