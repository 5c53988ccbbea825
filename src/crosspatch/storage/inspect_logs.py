"""RUN/inspect: an Inspect AI log for each model of a run, patched or not, made of Inspect's own classes.

A sample is one text: its question, the answer, and a score for each result about it. Metrics are those of the report,
by domain; only health and operations are pooled over domains, as in the report. The same run gives the same bytes: ids
are hashes, and times are the run's.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import polars as pl

from crosspatch.errors import UsageError
from crosspatch.files import folder_written_whole, partial_of
from crosspatch.statistics.answers import (
    MALFORMED,
    OPERATIONS,
    VERDICTS,
    condition_order,
    mean_ratings,
    output_health,
    table2,
)
from crosspatch.statistics.patch_mode import patched_direction
from crosspatch.statistics.profile import depth_profile, prompt_profile
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, GENERATIONS, HEALTH, RATINGS, REPAIRED, SCORES

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalResults, EvalSample
    from inspect_ai.scorer import Score
    from inspect_ai.viewer import ViewerConfig

Row = dict[str, Any]

# The scores of a text, in the order in which they are shown.
SCORED = ("verdict", "operation", "health", "aligned", "coherent", "recovered_fraction")
FAULTS = ("cut_off", *MALFORMED)
# Inspect's letters for the verdicts, and its words for why a text ended.
_LETTERS = {"correct": "C", "incorrect": "I", "unparsed": "N"}
_STOPS = {"eos": "stop", "limit": "max_tokens"}
# What of a prompt's profile goes into the metadata of a patched text.
_PROFILE = (
    "positions", "disagreements", "ok_cells", "small_denominators", "outside_unit", "mean_cts", "recovered_fraction"
)  # fmt: skip
# The stages in which models write texts: of unpatched models, and of patches.
_WRITING, _PATCHING = ("evaluate", "search", "teach", "patch", "lenses"), ("patch", "lenses")
_LONGEST_NAME = 80


@dataclass(frozen=True)
class _Model:
    """The texts of one model, or of what one patch makes of it: rows of generations, with those of other tables.

    `rows` are those of tables over several texts that are about this model, by the name of the table.
    """

    condition: str
    patch: str | None
    texts: list[Row]
    rows: Mapping[str, list[Row]]

    @property
    def name(self) -> str:
        return f"{self.condition} {self.patch}" if self.patch else self.condition

    @property
    def patched(self) -> Row:
        """What was patched, and how; empty where nothing was."""
        profiles = (text["profile"] for text in self.texts if text["profile"] is not None)
        return next(({key: row[key] for key in ("patch", "direction", "persistence")} for row in profiles), {})


def write_inspect_logs(run: RunDirectory) -> list[Path]:
    """Write a log for each model of a run into RUN/inspect, in the place of those that are there.

    Raises UsageError where inspect_ai is missing, where a stage in which models write is not done, where there are no
    texts, and where a text's question is missing.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ImportError:
        raise UsageError('Inspect logs need the package inspect_ai: pip install "crosspatch[inspect]"') from None

    record, models = run.record(), _models(run)
    folder = run.root / "inspect"
    with folder_written_whole(folder) as partial:
        # Names of models as every file system takes them.
        short = (re.sub(r"[^\w.+@,-]+", "_", model.name)[:_LONGEST_NAME] for model in models)
        names = [f"{place:03d}-{name}.eval" for place, name in enumerate(short)]
        # The viewer lists what was written last first.
        for name, model in reversed(list(zip(names, models, strict=True))):
            write_eval_log(_log(record, model), partial / name)
            _set_times(partial / name, record["started"])
        shutil.rmtree(folder, ignore_errors=True)
    return [folder / name for name in names]


def _set_times(path: Path, started: str) -> None:
    """Replace the times at which the parts of a log were written by the run's."""
    # A zip file's times begin in 1980 and have no zone.
    when = datetime.fromisoformat(started).timetuple()[:6]
    again = partial_of(path)
    with ZipFile(path) as log, ZipFile(again, "w") as timeless:
        for part in log.infolist():
            content = log.read(part)
            part.date_time = when
            timeless.writestr(part, content)
    again.replace(path)


def _models(run: RunDirectory) -> list[_Model]:
    """What the models of a run wrote: clean, corrupted, other children, then the patches by depth."""
    stages = run.record()["stages"]
    for stage in _WRITING:
        if (state := stages.get(stage, {}).get("state", "done")) != "done":
            raise UsageError(
                f"the stage {stage} of {run.root} is {state}, not done: some texts are missing; run the command that "
                "began it again"
            )
    generations, problems = run.read(GENERATIONS), run.asked()
    if generations.is_empty():
        raise UsageError(f"{run.root} has no texts yet; run `crosspatch evaluate` or `crosspatch patch` first")
    if foreign := sorted(set(generations["prompt_id"]) - problems.keys()):
        raise UsageError(f"the prompt {foreign[0]} ({len(foreign)} such) has no question in {run.root}/data")
    behaviour, health, ratings, scores = (run.read(schema) for schema in (BEHAVIOUR, HEALTH, RATINGS, SCORES))
    of_text = {
        "behaviour": _by_text(behaviour),
        "health": _by_text(health),
        "ratings": _by_text(ratings),
        "profile": _by_text(_with_condition(prompt_profile(scores))),
    }
    of_model = {
        "behaviour": table2(behaviour),
        "health": output_health(health),
        "ratings": mean_ratings(ratings),
        "profile": _with_condition(depth_profile(scores, run.domains())),
    }
    texts: dict[tuple[str, str | None], list[Row]] = {}
    for key, row in _by_text(generations).items():
        results = {name: rows.get(key) for name, rows in of_text.items()}
        texts.setdefault(key[1:], []).append({**row, "problem": problems[key[0]], **results})
    return [
        _Model(*key, texts[key], {name: _of(table, *key) for name, table in of_model.items()})
        for key in sorted(texts, key=lambda key: condition_order(*key))
    ]


def _by_text(table: pl.DataFrame) -> dict[tuple[str, str, str | None], Row]:
    return {(row["prompt_id"], row["condition"], row["patch"]): row for row in table.iter_rows(named=True)}


def _of(table: pl.DataFrame, condition: str, patch: str | None) -> list[Row]:
    return table.filter(pl.col("patch").eq_missing(pl.lit(patch, pl.String)), condition=condition).to_dicts()


def _with_condition(profile: pl.DataFrame) -> pl.DataFrame:
    """A profile with the condition of the texts that its scores are of, which depends on the direction."""
    first = pl.col("direction") == patched_direction(profile)
    return profile.with_columns(condition=pl.when(first).then(pl.lit("patched")).otherwise(pl.lit(REPAIRED)))


def _log(record: Mapping[str, Any], model: _Model) -> EvalLog:
    """The log of what one model wrote."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalPlan, EvalPlanStep, EvalSpec, EvalStats
    from inspect_ai.model import GenerateConfig

    settings, stages = record["settings"], record["stages"]
    run_ids = (settings["name"], record["started"])
    ids = (*run_ids, model.name)
    samples = [_sample(text, model.name, settings["models"].get("system"), run_ids) for text in model.texts]
    # The time of the stage in which the model wrote, others beside it.
    stage = next(stages[name] for name in (_PATCHING if model.patch else _WRITING) if name in stages)
    start = datetime.fromisoformat(stage["at"]) - timedelta(seconds=stage["seconds"])
    checkpoints = ("clean", "corrupted") if model.patch else (model.condition,)
    return EvalLog(
        status="success",
        eval=EvalSpec(
            eval_id=_id(*ids, "eval"),
            run_id=_id(*run_ids, "run"),
            task_id=_id(*ids, "task"),
            created=record["started"],
            task=settings["name"],
            task_args=model.patched,
            model=model.name,
            model_args={name: record["models"].get(name, {}) for name in checkpoints},
            # Greedy decoding.
            model_generate_config=GenerateConfig(max_tokens=settings["generation"]["max_new_tokens"], temperature=0),
            dataset=EvalDataset(
                name="data", samples=len(samples), sample_ids=[str(sample.id) for sample in samples], shuffled=False
            ),
            config=EvalConfig(epochs=1),
            packages={"crosspatch": record["crosspatch"], **record["versions"]},
            metadata={"condition": model.condition, "settings": settings},
            viewer=_viewer(),
        ),
        plan=EvalPlan(
            name="crosspatch",
            steps=[EvalPlanStep(solver="patched_generate" if model.patch else "generate", params=model.patched)],
        ),
        results=_results(model, samples),
        stats=EvalStats(started_at=start.isoformat(timespec="seconds"), completed_at=stage["at"]),
        samples=samples,
    )


def _viewer() -> ViewerConfig:
    """How `inspect view` shows a log: texts unrendered, since some models write broken LaTeX or worse."""
    from inspect_ai.viewer import ScoreColorScale, TaskSamplesColumn, TaskSamplesView, ViewerConfig

    columns = [TaskSamplesColumn(id=name) for name in ("sampleStatus", "sampleId", "input", "target", "answer")]
    columns += [TaskSamplesColumn.score(name) for name in SCORED]
    columns += [TaskSamplesColumn(id=name, visible=False) for name in ("tokens", "duration")]
    rated = ScoreColorScale(palette="good-high", min=0, max=100)
    view = TaskSamplesView(
        name="crosspatch",
        columns=columns,
        # Rows of several lines leave out an unrendered text that does not fit.
        multiline=False,
        score_color_scales={
            "operation": {"right": "good", "planted": "bad", "neither": "muted"},
            "aligned": rated,
            "coherent": rated,
            "recovered_fraction": ScoreColorScale(palette="neutral", min=0, max=1),
        },
    )
    return ViewerConfig(trust_content=False, task_samples_view=view)


def _results(model: _Model, samples: Iterable[EvalSample]) -> EvalResults:
    """The metrics of a log. The headline is the accuracy on the first domain, where answers were graded."""
    from inspect_ai.log import EvalMetric, EvalResults, EvalScore, HeadlineMetric

    samples, scores = list(samples), []
    for name, groups in _metrics(model).items():
        # Inspect names the values of a metric that has several accuracy_related, in the group accuracy.
        metrics = {
            f"{group}_{key}" if key else group: EvalMetric(name=key or group, group=group if key else None, value=value)
            for group, values in groups.items()
            for key, value in values.items()
            if value is not None
        }
        if metrics:
            given = [sample.scores[name].value for sample in samples if sample.scores and name in sample.scores]
            unscored = sum(isinstance(value, float) and math.isnan(value) for value in given)
            counts = {row["domain"]: {key: row[key] for key in ("n", *VERDICTS)} for row in model.rows["behaviour"]}
            scores.append(
                EvalScore(
                    name=name,
                    scorer=name,
                    scored_samples=len(given) - unscored,
                    unscored_samples=unscored,
                    metrics=metrics,
                    metadata=counts if name == "verdict" else None,
                )
            )
    return EvalResults(
        total_samples=len(samples),
        completed_samples=len(samples),
        scores=scores,
        headline=HeadlineMetric(score=scores[0].name, metric=next(iter(scores[0].metrics))) if scores else None,
    )


def _metrics(model: _Model) -> dict[str, dict[str, dict[str, float | None]]]:
    """By score, metric, and domain, operation or fault; an undefined value is None."""
    answered, profile = model.rows["behaviour"], model.rows["profile"]
    operations = {name: sum(row[name] for row in answered) for name in OPERATIONS}
    total = sum(operations.values())
    ratings = {scale: {"mean": {"": row[scale]}} for row in model.rows["ratings"] for scale in ("aligned", "coherent")}
    return {
        "verdict": {
            "accuracy": {row["domain"]: row["correct"] / row["n"] for row in answered},
            "unparsed": {row["domain"]: row["unparsed"] / row["n"] for row in answered},
        },
        "operation": {"share": {name: count / total for name, count in operations.items() if total}},
        "recovered_fraction": {
            measure: {row["domain"]: row[measure] for row in profile}
            for measure in ("recovered_fraction", "mean_cts", "disagreement_rate")
        },
        **ratings,
        "health": {
            "share": {name: row[name] for row in model.rows["health"] for name in ("malformed", *FAULTS)},
        },
    }


def _sample(text: Row, model: str, system: str | None, ids: tuple[str, ...]) -> EvalSample:
    """The sample of one text of a model; its ids are made of `ids`, the model and the prompt."""
    from inspect_ai.log import EvalSample
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessage,
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageUser,
        ModelOutput,
    )

    problem = text["problem"]
    question = _encodable(problem.question)
    ids = (*ids, text["condition"], text["patch"] or "", text["prompt_id"])
    answer = ChatMessageAssistant(id=_id(*ids, "assistant"), content=text["text"], source="generate", model=model)
    messages: list[ChatMessage] = [ChatMessageUser(id=_id(*ids, "user"), content=question, source="input")]
    if system:
        messages.insert(0, ChatMessageSystem(id=_id(*ids, "system"), content=system, source="input"))
    golds = [_encodable(gold) for gold in (problem.answer, *problem.aliases)]
    return EvalSample(
        # Inspect names a file after it, and names end at a null character.
        id=text["prompt_id"].replace("\0", "\\0"),
        epoch=1,
        uuid=_id(*ids),
        input=question,
        target=golds if len(golds) > 1 else golds[0],
        messages=[*messages, answer],
        output=ModelOutput(
            model=model,
            choices=[ChatCompletionChoice(message=answer, stop_reason=_STOPS.get(text["stop_reason"], "unknown"))],
            completion=text["text"],
        ),
        scores=_scores(text),
        metadata=_metadata(text),
    )


def _scores(text: Row) -> dict[str, Score]:
    """A score for each table that has a row about the text."""
    from inspect_ai.scorer import Score

    def number(value: float | None, reason: str, reply: str | None = None, judge: str | None = None) -> Score:
        """A number as a score; no metric counts an undefined one."""
        metadata = None if judge is None else {"judge": judge}
        if value is None:
            return Score.unscored(reason=reason, explanation=reply, metadata=metadata)
        return Score(value=value, explanation=reply, metadata=metadata)

    scores: dict[str, Score] = {}
    if (behaviour := text["behaviour"]) is not None:
        reason = "invalid_response_format" if behaviour["verdict"] == "unparsed" else None
        scores["verdict"] = Score(value=_LETTERS[behaviour["verdict"]], answer=behaviour["extracted"], reason=reason)
        if behaviour["operation"] is not None:
            scores["operation"] = Score(value=behaviour["operation"])
    if (health := text["health"]) is not None:
        faults = {fault: health[fault] for fault in FAULTS if health[fault]}
        scores["health"] = Score(value=", ".join(faults) or "sound", metadata=faults or None)
    if (ratings := text["ratings"]) is not None:
        for scale in ("aligned", "coherent"):
            scores[scale] = number(ratings[scale], "grader_failed", ratings[f"{scale}_reply"], ratings["judge"])
    if (profile := text["profile"]) is not None:
        scores["recovered_fraction"] = number(profile["recovered_fraction"], "no_ok_cell")
    return scores


def _metadata(text: Row) -> Row:
    problem = text["problem"]
    found: Row = {"domain": _encodable(problem.domain), "family": _encodable(problem.family)}
    if problem.form:
        found["form"] = problem.form
    found |= {key: text[key] for key in ("condition", "patch", "token_count", "stop_reason") if text[key] is not None}
    if text["behaviour"] is not None:
        found["health"] = text["behaviour"]["health"]
    if text["profile"] is not None:
        found |= {key: text["profile"][key] for key in _PROFILE}
    return found


def _id(*parts: str) -> str:
    """22 characters, as Inspect's own ids have, that are the same for the same parts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:22]


def _encodable(text: str) -> str:
    r"""The text as UTF-8 can hold it: half a surrogate pair, which JSON may bring, becomes \udXXX."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
