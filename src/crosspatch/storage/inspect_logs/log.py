"""RUN/inspect: a log for each model of a run, with its samples, what they come to, and how they came about.

The same run gives the same bytes: no id and no time is made here. Results are the report's own tables, by domain as
everywhere: no number pools questions of several domains but health and operations, which the report pools too.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import polars as pl

from crosspatch.errors import UsageError
from crosspatch.files import partial_of
from crosspatch.statistics.answers import OPERATIONS, VERDICTS, mean_ratings, output_health, table2
from crosspatch.statistics.profile import depth_profile
from crosspatch.storage.inspect_logs.sample import FAULTS, SCORED, stable_id, to_sample
from crosspatch.storage.inspect_logs.texts import ModelTexts, texts_by_model, with_condition
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, HEALTH, RATINGS, SCORES

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalMetric, EvalResults, EvalSample, EvalSpec, EvalStats
    from inspect_ai.viewer import ViewerConfig

_LONGEST_NAME = 80
# What the scores of a patch come to: how much is recovered, and how often the models disagree.
_MEASURES = ("recovered_fraction", "mean_cts", "disagreement_rate")
# The values of one metric, by domain, operation or fault; a value that is undefined is None.
Values = dict[str, float | None]


def write_inspect_logs(run: RunDirectory) -> list[Path]:
    """Write a log for each model of a run, patched or not, into RUN/inspect; logs that are there are replaced.

    The same run gives the same bytes. Raises UsageError where inspect_ai is missing, or the run's texts are not all
    there.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ImportError:
        raise UsageError('Inspect logs need the package inspect_ai: pip install "crosspatch[inspect]"') from None

    models, maker = texts_by_model(run), LogMaker.of(run)
    folder = run.root / "inspect"
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        names = [f"{place:03d}-{_file_name(model.name)}.eval" for place, model in enumerate(models)]
        # The viewer lists what was written last first.
        for name, model in reversed(list(zip(names, models, strict=True))):
            log = maker.log(model)
            write_eval_log(log, partial / name)
            _without_times(partial / name, log.eval.created)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [folder / name for name in names]


def _file_name(model: str) -> str:
    """A model's name as every file system takes it."""
    return re.sub(r"[^\w.+@,-]+", "_", model)[:_LONGEST_NAME]


def _without_times(path: Path, created: str) -> None:
    """Replace the times at which the parts of a log were written by the run's own."""
    # A zip file's times begin in 1980 and have no zone.
    when = datetime.fromisoformat(created).timetuple()[:6]
    again = partial_of(path)
    with ZipFile(path) as log, ZipFile(again, "w") as timeless:
        for part in log.infolist():
            content = log.read(part)
            part.date_time = when
            timeless.writestr(part, content)
    again.replace(path)


@dataclass(frozen=True)
class LogMaker:
    """Makes the logs of one run's models."""

    record: dict[str, Any]
    tables: Tables

    @classmethod
    def of(cls, run: RunDirectory) -> LogMaker:
        """That of a run directory."""
        return cls(run.record(), Tables.of(run))

    def log(self, model: ModelTexts) -> EvalLog:
        """The log of what one model wrote."""
        from inspect_ai.log import EvalLog, EvalPlan, EvalPlanStep

        system = self.record["settings"]["models"].get("system")
        samples = [to_sample(text, model.name, system, self._ids) for text in model.texts]
        step = EvalPlanStep(solver="patched_generate" if model.patch else "generate", params=model.moved)
        return EvalLog(
            status="success",
            eval=self._spec(model, samples),
            plan=EvalPlan(name="crosspatch", steps=[step]),
            results=results(self.tables, model, samples),
            stats=self._stats(model),
            samples=samples,
        )

    @property
    def _ids(self) -> tuple[str, ...]:
        """What tells this run from others."""
        return (self.record["settings"]["name"], self.record["started"])

    def _spec(self, model: ModelTexts, samples: Sequence[EvalSample]) -> EvalSpec:
        from inspect_ai.log import EvalConfig, EvalDataset, EvalSpec
        from inspect_ai.model import GenerateConfig

        record, settings, ids = self.record, self.record["settings"], (*self._ids, model.name)
        checkpoints = ("clean", "corrupted") if model.patch else (model.condition,)
        return EvalSpec(
            eval_id=stable_id(*ids, "eval"),
            run_id=stable_id(*self._ids, "run"),
            task_id=stable_id(*ids, "task"),
            created=record["started"],
            task=settings["name"],
            task_args=model.moved,
            model=model.name,
            model_args={name: record["models"].get(name, {}) for name in checkpoints},
            # The likeliest token is taken at every step.
            model_generate_config=GenerateConfig(max_tokens=settings["generation"]["max_new_tokens"], temperature=0),
            dataset=EvalDataset(
                name="data", samples=len(samples), sample_ids=[str(sample.id) for sample in samples], shuffled=False
            ),
            config=EvalConfig(epochs=1),
            packages={"crosspatch": record["crosspatch"], **record["versions"]},
            metadata={"condition": model.condition, "settings": settings},
            viewer=_viewer(),
        )

    def _stats(self, model: ModelTexts) -> EvalStats:
        """The time of the stage in which the model wrote, others beside it."""
        from inspect_ai.log import EvalStats

        stages = self.record["stages"]
        order = ("patch", "lenses") if model.patch else ("evaluate", "search", "teach", "patch", "lenses")
        stage = next(stages[name] for name in order if name in stages)
        start = datetime.fromisoformat(stage["at"]) - timedelta(seconds=stage["seconds"])
        return EvalStats(started_at=start.isoformat(timespec="seconds"), completed_at=stage["at"])


def _viewer() -> ViewerConfig:
    """How `inspect view` shows a log: texts as they stand, for some models write broken LaTeX or worse."""
    from inspect_ai.viewer import ScoreColorScale, TaskSamplesColumn, TaskSamplesView, ViewerConfig

    shown: list[str] = ["sampleStatus", "sampleId", "input", "target", "answer"]
    columns = [TaskSamplesColumn(id=name) for name in shown]
    columns += [TaskSamplesColumn.score(name) for name in SCORED]
    columns += [TaskSamplesColumn(id=name, visible=False) for name in ("tokens", "duration")]
    rated = ScoreColorScale(palette="good-high", min=0, max=100)
    view = TaskSamplesView(
        name="crosspatch",
        columns=columns,
        # In rows of several lines a text that stands as it is and does not fit is left out.
        multiline=False,
        score_color_scales={
            "operation": {"right": "good", "planted": "bad", "neither": "muted"},
            "aligned": rated,
            "coherent": rated,
            "recovered_fraction": ScoreColorScale(palette="neutral", min=0, max=1),
        },
    )
    return ViewerConfig(trust_content=False, task_samples_view=view)


@dataclass(frozen=True)
class Tables:
    """Counts and means of all models of a run."""

    behaviour: pl.DataFrame
    health: pl.DataFrame
    ratings: pl.DataFrame
    profile: pl.DataFrame

    @classmethod
    def of(cls, run: RunDirectory) -> Tables:
        """The tables of a run."""
        return cls(
            table2(run.read(BEHAVIOUR)),
            output_health(run.read(HEALTH)),
            mean_ratings(run.read(RATINGS)),
            with_condition(depth_profile(run.read(SCORES), run.domains())),
        )

    def metrics(self, model: ModelTexts) -> dict[str, dict[str, Values]]:
        """By score, by metric: what it comes to for this model."""
        answered, patched = model.rows(self.behaviour), model.rows(self.profile)
        told = {name: sum(row[name] for row in answered) for name in OPERATIONS}
        found: dict[str, dict[str, Values]] = {
            "verdict": {
                "accuracy": {row["domain"]: row["correct"] / row["n"] for row in answered},
                "unparsed": {row["domain"]: row["unparsed"] / row["n"] for row in answered},
            },
            "operation": {
                "share": {name: count / sum(told.values()) for name, count in told.items() if any(told.values())}
            },
            "recovered_fraction": {name: {row["domain"]: row[name] for row in patched} for name in _MEASURES},
        }
        for row in model.rows(self.ratings):
            found |= {scale: {"mean": {"": row[scale]}} for scale in ("aligned", "coherent")}
        found["health"] = {
            "share": {name: row[name] for row in model.rows(self.health) for name in ("malformed", *FAULTS)}
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
