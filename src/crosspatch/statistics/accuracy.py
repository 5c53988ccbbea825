"""How many answers are right, by model, domain and form of question. Knows nothing of how answers were graded."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from crosspatch.data.problem import Problem
from crosspatch.statistics.domain import ordered_domains


def accuracy(behaviour: pl.DataFrame, problems: Mapping[str, Problem]) -> pl.DataFrame:
    """A row for each model, domain and form: condition, domain, form, correct, n, share.

    Unpatched answers only, models in the order in which they answered. `form` is null where a domain's questions
    were not made but come from a suite. Raises ValueError for a prompt that `problems` lacks.
    """
    unpatched = behaviour.filter(pl.col("patch").is_null())
    if foreign := sorted(set(unpatched["prompt_id"]) - problems.keys()):
        raise ValueError(f"no problem known for {foreign[0]!r} ({len(foreign)} such); pass all problems")
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
