"""What the texts of one model come to, as the results of an Inspect log: the report's own tables, nothing new.

By domain, as everywhere: no number here pools questions of several domains but health and operations, which the
report pools too. Knows no text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from crosspatch.statistics.health import output_health
from crosspatch.statistics.profile import depth_profile
from crosspatch.statistics.ratings import mean_ratings
from crosspatch.statistics.table2 import OPERATIONS, VERDICTS, table2
from crosspatch.storage.inspect_logs.sample import FAULTS
from crosspatch.storage.inspect_logs.texts import ModelTexts, with_condition
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, HEALTH, RATINGS, SCORES

if TYPE_CHECKING:
    from inspect_ai.log import EvalMetric, EvalResults, EvalSample

# What the scores of a patch come to: how much transfers, and how often the models disagree.
_MEASURES = ("transfer", "mean_cts", "disagreement_rate")
# The values of one metric, by domain, operation or fault; a value that is undefined is None.
Values = dict[str, float | None]


@dataclass(frozen=True)
class Tables:
    """Counts and means of all models of a run."""

    behaviour: pl.DataFrame
    health: pl.DataFrame
    ratings: pl.DataFrame
    transfer: pl.DataFrame

    @classmethod
    def of(cls, run: RunDirectory) -> Tables:
        """The tables of a run."""
        domains = {name: problem.domain for name, problem in run.asked().items()}
        return cls(
            table2(run.read(BEHAVIOUR)),
            output_health(run.read(HEALTH)),
            mean_ratings(run.read(RATINGS)),
            with_condition(depth_profile(run.read(SCORES), domains)),
        )

    def metrics(self, model: ModelTexts) -> dict[str, dict[str, Values]]:
        """By score, by metric: what it comes to for this model."""
        answered, patched = model.rows(self.behaviour), model.rows(self.transfer)
        told = {name: sum(row[name] for row in answered) for name in OPERATIONS}
        found: dict[str, dict[str, Values]] = {
            "verdict": {
                "accuracy": {row["domain"]: row["correct"] / row["n"] for row in answered},
                "unparsed": {row["domain"]: row["unparsed"] / row["n"] for row in answered},
            },
            "operation": {
                "share": {name: count / sum(told.values()) for name, count in told.items() if any(told.values())}
            },
            "transfer": {name: {row["domain"]: row[name] for row in patched} for name in _MEASURES},
        }
        for row in model.rows(self.ratings):
            found |= {scale: {"mean": {"": row[scale]}} for scale in ("aligned", "coherent")}
        found["health"] = {
            "share": {name: row[name] for row in model.rows(self.health) for name in ("unsound", *FAULTS)}
        }
        return found

    def counts(self, model: ModelTexts) -> dict[str, Any]:
        """How many answers of each domain had which verdict."""
        return {row["domain"]: {key: row[key] for key in ("n", *VERDICTS)} for row in model.rows(self.behaviour)}


def results(tables: Tables, model: ModelTexts, samples: Sequence[EvalSample]) -> EvalResults:
    """The results of a log. Its headline is the accuracy on the first domain, that of the fine-tune, if known."""
    from inspect_ai.log import EvalResults, EvalScore, HeadlineMetric

    scores = []
    for name, groups in tables.metrics(model).items():
        if metrics := _metrics(groups):
            given = [sample.scores[name].value for sample in samples if sample.scores and name in sample.scores]
            unscored = sum(isinstance(value, float) and math.isnan(value) for value in given)
            scores.append(
                EvalScore(
                    name=name,
                    scorer=name,
                    scored_samples=len(given) - unscored,
                    unscored_samples=unscored,
                    metrics=metrics,
                    metadata=tables.counts(model) if name == "verdict" else None,
                )
            )
    return EvalResults(
        total_samples=len(samples),
        completed_samples=len(samples),
        scores=scores,
        headline=HeadlineMetric(score=scores[0].name, metric=next(iter(scores[0].metrics))) if scores else None,
    )


def _metrics(groups: Mapping[str, Values]) -> dict[str, EvalMetric]:
    """Named as Inspect names the values of a metric that gives several: accuracy_related, in the group accuracy."""
    from inspect_ai.log import EvalMetric

    return {
        f"{group}_{name}" if name else group: EvalMetric(name=name or group, group=group if name else None, value=value)
        for group, values in groups.items()
        for name, value in values.items()
        if value is not None
    }
