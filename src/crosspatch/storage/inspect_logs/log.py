"""The Inspect log of one model: its samples, what they come to, and how they came about.

The same run gives the same log: no id and no time is made here. Knows the run's record and the texts; not where a
log is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from crosspatch.storage.inspect_logs.metrics import Tables, results
from crosspatch.storage.inspect_logs.sample import SCORES, stable_id, to_sample
from crosspatch.storage.inspect_logs.texts import ModelTexts
from crosspatch.storage.run import RunDirectory

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample, EvalSpec, EvalStats
    from inspect_ai.viewer import ViewerConfig


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
        order = ("patch",) if model.patch else ("evaluate", "search", "teach", "patch")
        stage = next(stages[name] for name in order if name in stages)
        start = datetime.fromisoformat(stage["at"]) - timedelta(seconds=stage["seconds"])
        return EvalStats(started_at=start.isoformat(timespec="seconds"), completed_at=stage["at"])


def _viewer() -> ViewerConfig:
    """How `inspect view` shows a log: texts as they stand, for some models write broken LaTeX or worse."""
    from inspect_ai.viewer import ScoreColorScale, TaskSamplesColumn, TaskSamplesView, ViewerConfig

    shown: list[str] = ["sampleStatus", "sampleId", "input", "target", "answer"]
    columns = [TaskSamplesColumn(id=name) for name in shown]
    columns += [TaskSamplesColumn.score(name) for name in SCORES]
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
            "transfer": ScoreColorScale(palette="neutral", min=0, max=1),
        },
    )
    return ViewerConfig(trust_content=False, task_samples_view=view)
