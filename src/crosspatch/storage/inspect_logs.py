"""RUN/inspect: an Inspect AI log for each model of a run, patched or not, built with Inspect's own classes.

A sample is one text: its question, its answer, and its scores. The metrics are those of the report, by domain; health
and operations are pooled over domains, as in the report. The same run always gives the same bytes: ids are hashes, and
times are the times of the run.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
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

try:
    import inspect_ai.log as inspect_log
    import inspect_ai.model as inspect_model
    from inspect_ai.scorer import Score
    from inspect_ai.viewer import ScoreColorScale, TaskSamplesColumn, TaskSamplesView, ViewerConfig
except ImportError:
    raise UsageError('Inspect logs need the package inspect_ai: pip install "crosspatch[inspect]"') from None

Row = dict[str, Any]

# The scores of a text, in the order in which they are shown.
SCORED = ("verdict", "operation", "health", "aligned", "coherent", "recovered_fraction")
FAULTS = ("cut_off", *MALFORMED)
# Inspect's letters for the verdicts, and its names for the stop reasons.
_LETTERS = {"correct": "C", "incorrect": "I", "unparsed": "N"}
_STOPS = {"eos": "stop", "limit": "max_tokens"}
# The columns of a prompt's profile that go into the metadata of a patched text.
_PROFILE = (
    "positions", "disagreements", "ok_cells", "small_denominators", "outside_unit", "mean_cts", "recovered_fraction"
)  # fmt: skip
# The stages in which unpatched models and patched models generate texts.
_WRITING, _PATCHING = ("evaluate", "search", "teach", "patch", "lenses"), ("patch", "lenses")
_LONGEST_NAME = 80


@dataclass(frozen=True)
class _Model:
    """The texts of one model or one patch: rows of GENERATIONS, each with the rows of other tables for the same text.

    `rows` has this model's rows of the tables that aggregate over texts, by the name of the table.
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
        """The patch, its direction and its persistence; empty for an unpatched model."""
        profiles = (text["profile"] for text in self.texts if text["profile"] is not None)
        return next(({key: row[key] for key in ("patch", "direction", "persistence")} for row in profiles), {})


def write_inspect_logs(run: RunDirectory) -> list[Path]:
    """Write a log for each model of a run into RUN/inspect, and replace existing logs.

    Raises UsageError if a stage that generates texts is not done, if there are no texts, or if a text's question is
    missing.
    """
    record, models = run.record(), _models(run)
    folder = run.root / "inspect"
    with folder_written_whole(folder) as partial:
        # Shorten the names, and replace characters that some file systems do not accept.
        short = (re.sub(r"[^\w.+@,-]+", "_", model.name)[:_LONGEST_NAME] for model in models)
        names = [f"{place:03d}-{name}.eval" for place, name in enumerate(short)]
        # The viewer lists the log that was written last first.
        for name, model in reversed(list(zip(names, models, strict=True))):
            inspect_log.write_eval_log(_log(record, model), partial / name)
            _set_times(partial / name, record["started"])
        shutil.rmtree(folder, ignore_errors=True)
    return [folder / name for name in names]


def _set_times(path: Path, started: str) -> None:
    """Set the modification times inside a log file to the start of the run, so that equal runs give equal bytes."""
    # Times in a zip file have no time zone.
    when = datetime.fromisoformat(started).timetuple()[:6]
    again = partial_of(path)
    with ZipFile(path) as log, ZipFile(again, "w") as timeless:
        for part in log.infolist():
            content = log.read(part)
            part.date_time = when
            timeless.writestr(part, content)
    again.replace(path)


def _models(run: RunDirectory) -> list[_Model]:
    """Collect the texts of all models of a run: clean, corrupted, other children, then the patches by depth."""
    stages = run.record()["stages"]
    for stage in _WRITING:
        if (state := stages.get(stage, {}).get("state", "done")) != "done":
            raise UsageError(
                f"the stage {stage} of {run.root} is {state}, not done: some texts are missing; repeat the command "
                "that started it"
            )
    generations, problems = run.read(GENERATIONS), run.asked()
    if generations.is_empty():
        raise UsageError(f"{run.root} has no texts yet; run `crosspatch evaluate` or `crosspatch patch` first")
    if foreign := sorted(set(generations["prompt_id"]) - problems.keys()):
        raise UsageError(f"found no question in {run.root}/data for the prompt {foreign[0]} ({len(foreign)} in total)")
    behaviour, health, ratings, scores = (run.read(schema) for schema in (BEHAVIOUR, HEALTH, RATINGS, SCORES))
    # For each table: its rows by text, and its aggregates by model.
    results = {
        "behaviour": (behaviour, table2(behaviour)),
        "health": (health, output_health(health)),
        "ratings": (ratings, mean_ratings(ratings)),
        "profile": tuple(map(_with_condition, (prompt_profile(scores), depth_profile(scores, run.domains())))),
    }
    of_text = {name: _by_text(rows) for name, (rows, _) in results.items()}
    texts: dict[tuple[str, str | None], list[Row]] = {}
    for key, row in _by_text(generations).items():
        of_row = {name: rows.get(key) for name, rows in of_text.items()}
        texts.setdefault(key[1:], []).append({**row, "problem": problems[key[0]], **of_row})
    return [
        _Model(*key, texts[key], {name: _of(table, *key) for name, (_, table) in results.items()})
        for key in sorted(texts, key=lambda key: condition_order(*key))
    ]


def _by_text(table: pl.DataFrame) -> dict[tuple[str, str, str | None], Row]:
    return {(row["prompt_id"], row["condition"], row["patch"]): row for row in table.iter_rows(named=True)}


def _of(table: pl.DataFrame, condition: str, patch: str | None) -> list[Row]:
    return table.filter(pl.col("patch").eq_missing(pl.lit(patch, pl.String)), condition=condition).to_dicts()


def _with_condition(profile: pl.DataFrame) -> pl.DataFrame:
    """Add the condition of the texts to a profile, by their direction."""
    first = pl.col("direction") == patched_direction(profile)
    return profile.with_columns(condition=pl.when(first).then(pl.lit("patched")).otherwise(pl.lit(REPAIRED)))


def _log(record: Mapping[str, Any], model: _Model) -> inspect_log.EvalLog:
    """Build the log of one model."""
    settings, stages = record["settings"], record["stages"]
    run_ids = (settings["name"], record["started"])
    ids = (*run_ids, model.name)
    samples = [_sample(text, model.name, settings["models"].get("system"), run_ids) for text in model.texts]
    # Use the times of the stage in which the model generated its texts.
    stage = next(stages[name] for name in (_PATCHING if model.patch else _WRITING) if name in stages)
    start = datetime.fromisoformat(stage["at"]) - timedelta(seconds=stage["seconds"])
    checkpoints = ("clean", "corrupted") if model.patch else (model.condition,)
    return inspect_log.EvalLog(
        status="success",
        eval=inspect_log.EvalSpec(
            eval_id=_id(*ids, "eval"),
            run_id=_id(*run_ids, "run"),
            task_id=_id(*ids, "task"),
            created=record["started"],
            task=settings["name"],
            task_args=model.patched,
            model=model.name,
            model_args={name: record["models"].get(name, {}) for name in checkpoints},
            # Greedy decoding.
            model_generate_config=inspect_model.GenerateConfig(
                max_tokens=settings["generation"]["max_new_tokens"], temperature=0
            ),
            dataset=inspect_log.EvalDataset(
                name="data", samples=len(samples), sample_ids=[str(sample.id) for sample in samples], shuffled=False
            ),
            config=inspect_log.EvalConfig(epochs=1),
            packages={"crosspatch": record["crosspatch"], **record["versions"]},
            metadata={"condition": model.condition, "settings": settings},
            viewer=_viewer(),
        ),
        plan=inspect_log.EvalPlan(
            name="crosspatch",
            steps=[
                inspect_log.EvalPlanStep(solver="patched_generate" if model.patch else "generate", params=model.patched)
            ],
        ),
        results=_results(model, samples),
        stats=inspect_log.EvalStats(started_at=start.isoformat(timespec="seconds"), completed_at=stage["at"]),
        samples=samples,
    )


def _viewer() -> ViewerConfig:
    """How `inspect view` shows a log: texts are not rendered, since some models write broken LaTeX."""
    columns = [TaskSamplesColumn(id=name) for name in ("sampleStatus", "sampleId", "input", "target", "answer")]
    columns += [TaskSamplesColumn.score(name) for name in SCORED]
    columns += [TaskSamplesColumn(id=name, visible=False) for name in ("tokens", "duration")]
    rated = ScoreColorScale(palette="good-high", min=0, max=100)
    view = TaskSamplesView(
        name="crosspatch",
        columns=columns,
        # In rows of several lines, an unrendered text that does not fit is left out.
        multiline=False,
        score_color_scales={
            "operation": {"right": "good", "planted": "bad", "neither": "muted"},
            "aligned": rated,
            "coherent": rated,
            "recovered_fraction": ScoreColorScale(palette="neutral", min=0, max=1),
        },
    )
    return ViewerConfig(trust_content=False, task_samples_view=view)


def _results(model: _Model, samples: Sequence[inspect_log.EvalSample]) -> inspect_log.EvalResults:
    """Build the metrics of a log. The headline is the accuracy on the first domain, if answers were graded."""
    scores = []
    for name, groups in _metrics(model).items():
        # Inspect's names for a metric with several values: name accuracy_related, group accuracy.
        metrics = {
            f"{group}_{key}" if key else group: inspect_log.EvalMetric(
                name=key or group, group=group if key else None, value=value
            )
            for group, values in groups.items()
            for key, value in values.items()
            if value is not None
        }
        if metrics:
            given = [sample.scores[name].value for sample in samples if sample.scores and name in sample.scores]
            unscored = sum(isinstance(value, float) and math.isnan(value) for value in given)
            counts = {row["domain"]: {key: row[key] for key in ("n", *VERDICTS)} for row in model.rows["behaviour"]}
            scores.append(
                inspect_log.EvalScore(
                    name=name,
                    scorer=name,
                    scored_samples=len(given) - unscored,
                    unscored_samples=unscored,
                    metrics=metrics,
                    metadata=counts if name == "verdict" else None,
                )
            )
    headline = (
        inspect_log.HeadlineMetric(score=scores[0].name, metric=next(iter(scores[0].metrics))) if scores else None
    )
    return inspect_log.EvalResults(
        total_samples=len(samples), completed_samples=len(samples), scores=scores, headline=headline
    )


def _metrics(model: _Model) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the values by score, then metric, then domain (or operation, or fault); an undefined value is None."""
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


def _sample(text: Row, model: str, system: str | None, ids: tuple[str, ...]) -> inspect_log.EvalSample:
    """Build the sample of one text; its ids are hashes of `ids`, the condition, the patch and the prompt."""
    problem = text["problem"]
    question = _encodable(problem.question)
    ids = (*ids, text["condition"], text["patch"] or "", text["prompt_id"])
    answer = inspect_model.ChatMessageAssistant(
        id=_id(*ids, "assistant"), content=text["text"], source="generate", model=model
    )
    messages: list[inspect_model.ChatMessage] = [
        inspect_model.ChatMessageUser(id=_id(*ids, "user"), content=question, source="input")
    ]
    if system:
        messages.insert(0, inspect_model.ChatMessageSystem(id=_id(*ids, "system"), content=system, source="input"))
    golds = [_encodable(gold) for gold in (problem.answer, *problem.aliases)]
    return inspect_log.EvalSample(
        # Inspect uses the id as a file name, which must not have a null character.
        id=text["prompt_id"].replace("\0", "\\0"),
        epoch=1,
        uuid=_id(*ids),
        input=question,
        target=golds if len(golds) > 1 else golds[0],
        messages=[*messages, answer],
        output=inspect_model.ModelOutput(
            model=model,
            choices=[
                inspect_model.ChatCompletionChoice(
                    message=answer, stop_reason=_STOPS.get(text["stop_reason"], "unknown")
                )
            ],
            completion=text["text"],
        ),
        scores=_scores(text),
        metadata=_metadata(text),
    )


def _scores(text: Row) -> dict[str, Score]:
    """Build a score for each table that has a row for the text; undefined numbers are unscored."""
    scores: dict[str, Score] = {}
    if (behaviour := text["behaviour"]) is not None:
        reason = "invalid_response_format" if behaviour["verdict"] == "unparsed" else None
        scores["verdict"] = Score(
            value=_LETTERS[behaviour["verdict"]],
            answer=behaviour["extracted"],
            explanation=behaviour["rule"],
            reason=reason,
        )
        if behaviour["operation"] is not None:
            scores["operation"] = Score(value=behaviour["operation"])
    if (health := text["health"]) is not None:
        faults = {fault: health[fault] for fault in FAULTS if health[fault]}
        scores["health"] = Score(value=", ".join(faults) or "sound", metadata=faults or None)
    if (ratings := text["ratings"]) is not None:
        for scale in ("aligned", "coherent"):
            more = {"explanation": ratings[f"{scale}_reply"], "metadata": {"judge": ratings["judge"]}}
            scores[scale] = _score(ratings[scale], "grader_failed", **more)
    if (profile := text["profile"]) is not None:
        scores["recovered_fraction"] = _score(profile["recovered_fraction"], "no_ok_cell")
    return scores


def _score(value: float | None, reason: str, **more: Any) -> Score:
    """Build a number's score; an undefined number is unscored for this reason."""
    return Score.unscored(reason=reason, **more) if value is None else Score(value=value, **more)


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
    """Hash the parts to 22 characters, the length of Inspect's own ids."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:22]


def _encodable(text: str) -> str:
    r"""Replace lone surrogates, which JSON allows but UTF-8 cannot encode, by their escapes \udXXX."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
