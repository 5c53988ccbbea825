"""The run directory: what an experiment leaves on disk, and which of its stages are done.

Knows files and their states, not how anything in them is made.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from datetime import date as Date
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl

from crosspatch.card import Card, Table
from crosspatch.config import DOMAINS, Experiment
from crosspatch.data.problem import Problem, read_problems
from crosspatch.errors import UsageError
from crosspatch.files import written_whole
from crosspatch.statistics.claim import claims_table, counted
from crosspatch.statistics.domain import domain_title
from crosspatch.statistics.localisation import EXTENTS, most_telling
from crosspatch.statistics.variant import variants
from crosspatch.storage.shards import checksums, whole
from crosspatch.tables import (
    BEHAVIOUR,
    CLAIMS,
    CONTROLS,
    DIVERGENCES,
    GENERATIONS,
    HALFWAY,
    HEALTH,
    LOCALISATION,
    OPERATIONS,
    RATINGS,
    SCORES,
    SPANS,
    TOP_TOKENS,
    TRAINING,
    VARIANTS,
    VOCABULARY,
    Schema,
)

PACKAGES = ("torch", "transformers", "accelerate", "peft", "math-verify", "sympy", "scipy", "polars", "plotly")

# What run.json is laid out by; other layouts are refused.
SCHEMA_VERSION = 2

# What tells one text from another.
_TEXT = ["prompt_id", "condition", "patch"]


@dataclass(frozen=True)
class RunDirectory:
    """One experiment's folder. Its tables are empty frames until their stage has run."""

    root: Path

    @classmethod
    def start(cls, root: Path, experiment: Experiment) -> RunDirectory:
        """A new or continued run; raises UsageError like `check`."""
        cls.check(root, experiment)
        run = cls(root)
        if run.record.is_file():
            return run
        root.mkdir(parents=True, exist_ok=True)
        run._write(
            {
                "schema_version": SCHEMA_VERSION,
                "crosspatch": metadata.version("crosspatch"),
                "started": _now(),
                "settings": experiment.model_dump(mode="json"),
                "seeds": {"experiment": experiment.seed},
                "versions": versions(),
                "decisions": {"date": Date.today().isoformat()},
                "models": {},
                "stages": {},
            }
        )
        return run

    @classmethod
    def check(cls, root: Path, experiment: Experiment) -> None:
        """Refuse a folder that holds another experiment or foreign files; leaves it as it is."""
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, expected a folder for the results")
        run = cls(root)
        if run.record.is_file():
            run._must_match(experiment)
        elif root.is_dir() and any(not _ours(path) for path in root.iterdir()):
            raise UsageError(f"the folder {root} holds other files and no run.json; give --out a new folder")

    @classmethod
    def existing(cls, root: Path | str) -> RunDirectory:
        """A run that is there; raises UsageError where the folder is none."""
        run = cls(Path(root))
        if not run.record.is_file():
            raise UsageError(f"{root} is no run directory: it has no run.json")
        run.read()
        return run

    @property
    def record(self) -> Path:
        """run.json."""
        return self.root / "run.json"

    @property
    def training_log(self) -> Path:
        """training.parquet."""
        return self.root / "training.parquet"

    def checkpoints(self, name: str) -> Path:
        """Where the training of a model keeps its checkpoints while it runs."""
        return self.root / "checkpoints" / name

    def tensorboard(self, name: str) -> Path:
        """Where the training of a model puts its curves for TensorBoard, if they are wanted."""
        return self.root / "tensorboard" / name

    def remove_checkpoints(self, name: str) -> None:
        """Remove what a training kept; the folder of all goes with its last."""
        shutil.rmtree(self.checkpoints(name), ignore_errors=True)
        with suppress(OSError):
            self.checkpoints(name).parent.rmdir()

    @property
    def lessons(self) -> Path:
        """The folder of what a model is taught on."""
        return self.root / "lessons"

    @property
    def figures(self) -> Path:
        """The folder of pictures."""
        return self.root / "figures"

    @property
    def report(self) -> Path:
        """report.html."""
        return self.root / "report.html"

    @property
    def markdown(self) -> Path:
        """report.md."""
        return self.root / "report.md"

    def model(self, name: str) -> Path:
        """The folder of the clean model, the corrupted one or another child."""
        return self.root / "models" / name

    def problems_file(self, split: str) -> Path:
        """The JSONL file of a split: train, validation, one of the domains, or prompts."""
        return self.root / "data" / f"{split}.jsonl"

    def problems(self, split: str) -> list[Problem]:
        """The problems of a split; none where it was not made."""
        path = self.problems_file(split)
        return read_problems(path) if path.is_file() else []

    def splits(self) -> list[str]:
        """The names of the splits that were made."""
        return sorted(path.stem for path in (self.root / "data").glob("*.jsonl"))

    def asked(self) -> dict[str, Problem]:
        """Every problem that a model may have been asked, by prompt_id: the held-out ones and the given prompts."""
        return {problem.id: problem for split in (*DOMAINS, "prompts") for problem in self.problems(split)}

    def domains(self) -> dict[str, str]:
        """The domain of each of these, by prompt_id."""
        return {prompt_id: problem.domain for prompt_id, problem in self.asked().items()}

    def within(self, path: Path) -> str:
        """A path of the run directory as seen from there."""
        return path.relative_to(self.root).as_posix()

    def scores_part(self, index: int) -> Path:
        """The scores of the `index`-th shard."""
        return self.root / "scores" / f"part-{index:05d}.parquet"

    def scores(self) -> pl.DataFrame:
        """All scores, by prompt, direction, patch and step, each in the order in which they were asked for.

        Raises CrosspatchError where a part is not what was written.
        """
        return self._parts(SCORES)

    def vocabulary(self) -> dict[int, str] | None:
        """The texts by id of all tokens in the scores; None where they were not kept."""
        path = self._table(VOCABULARY)
        return dict(VOCABULARY.read(path).iter_rows()) if path.is_file() else None

    def put_vocabulary(self, texts: Mapping[int, str]) -> None:
        """Keep the texts of tokens."""
        VOCABULARY.write(
            VOCABULARY.frame({"token_id": token_id, "token": text} for token_id, text in sorted(texts.items())),
            self._table(VOCABULARY),
        )

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return int(self.read().get("seeds", {}).get("experiment", 0))

    @property
    def n_layers(self) -> int | None:
        """How many blocks the models have; None where neither was loaded yet."""
        return self.read()["models"].get("clean", {}).get("layers")

    def control_part(self, control: str, index: int) -> Path:
        """The scores of a control after the prompt that is patched as the `index`-th."""
        return self.root / "controls" / control / f"part-{index:05d}.parquet"

    def controls(self) -> pl.DataFrame:
        """The scores of all controls, by control and in the order of the prompts."""
        return self._parts(CONTROLS, "*/part-*.parquet")

    def spans_part(self, index: int) -> Path:
        """The scores along the `index`-th wrong solution."""
        return self.root / "spans" / f"part-{index:05d}.parquet"

    def spans(self) -> pl.DataFrame:
        """All scores along wrong solutions, in the order of the prompts."""
        return self._parts(SPANS)

    def screened_part(self, index: int) -> Path:
        """The estimates of all places after the prompt that is localised as the `index`-th, none measured yet."""
        return self.root / "localisation" / f"screened-{index:05d}.parquet"

    def localisation_part(self, index: int) -> Path:
        """The same with what was measured."""
        return self.root / "localisation" / f"part-{index:05d}.parquet"

    def divergence_part(self, index: int) -> Path:
        """The first divergence after the prompt that is localised as the `index`-th."""
        return self.root / "divergences" / f"part-{index:05d}.parquet"

    def top_tokens_part(self, index: int) -> Path:
        """Both models' most probable tokens there."""
        return self.root / "top_tokens" / f"part-{index:05d}.parquet"

    def localisation(self) -> pl.DataFrame:
        """What each place carries, in the order of the prompts."""
        return self._parts(LOCALISATION)

    def divergences(self) -> pl.DataFrame:
        """The first divergence of every prompt that has one, layer by layer."""
        return self._parts(DIVERGENCES)

    def top_tokens(self) -> pl.DataFrame:
        """The most probable tokens at each of these."""
        return self._parts(TOP_TOKENS)

    def generations(self) -> pl.DataFrame:
        """All texts, those of a sweep that still goes on among them."""
        table = GENERATIONS.read(self._table(GENERATIONS))
        if self.done("patch") or (swept := self.swept_texts()).is_empty():
            return table
        return pl.concat([table.join(swept, on=_TEXT, how="anti", nulls_equal=True), swept])

    def texts_part(self, index: int) -> Path:
        """The texts of the `index`-th shard of the sweep, which go into generations.parquet when all are done."""
        return self.root / "shards" / "patch" / f"texts-{index:05d}.parquet"

    def swept_texts(self) -> pl.DataFrame:
        """The texts of all shards that are done, in the order of their scores."""
        return self._whole(GENERATIONS, sorted((self.root / "shards" / "patch").glob("texts-*.parquet")))

    def behaviour(self) -> pl.DataFrame:
        """All verdicts."""
        return BEHAVIOUR.read(self._table(BEHAVIOUR))

    def operations(self) -> pl.DataFrame:
        """The verdicts on each operation that a solution states, part by part."""
        return OPERATIONS.read(self._table(OPERATIONS))

    def health(self) -> pl.DataFrame:
        """What is wrong with each text itself."""
        return HEALTH.read(self._table(HEALTH))

    def variants(self) -> pl.DataFrame:
        """The variants that a search compared; empty where there was none."""
        return VARIANTS.read(self._table(VARIANTS))

    def put_variants(self, rows: pl.DataFrame) -> None:
        """Keep what a search found."""
        VARIANTS.write(rows, self._table(VARIANTS))

    def ratings(self) -> pl.DataFrame:
        """All ratings of free answers."""
        return RATINGS.read(self._table(RATINGS))

    def selection(self, schema: Schema) -> pl.DataFrame:
        """Why the patches were chosen, by a screen or a search; empty where they were not chosen so."""
        return schema.read(self._table(schema))

    def put_selection(self, schema: Schema, rows: pl.DataFrame) -> None:
        """Keep why the patches were chosen."""
        schema.write(rows, self._table(schema))

    def lens(self, schema: Schema) -> pl.DataFrame:
        """What a lens has shown: weights, activations or logit_lens; empty where it was not looked through."""
        return schema.read(self._table(schema))

    def put_lens(self, schema: Schema, rows: pl.DataFrame) -> None:
        """Add what a lens has shown; all that is there of the same child, along the same prompt, is replaced."""
        keys = [key for key in ("child", "prompt_id") if key in schema.columns]
        kept = self.lens(schema).join(rows, on=keys, how="anti")
        schema.write(pl.concat([kept, rows]), self._table(schema))

    def statistics(self, schema: Schema) -> pl.DataFrame:
        """A table of the run's summary; empty where it was not made."""
        return schema.read(self.root / "statistics" / f"{schema.name}.parquet")

    def put_statistics(self, schema: Schema, rows: pl.DataFrame) -> None:
        """Keep a table of the run's summary."""
        (self.root / "statistics").mkdir(exist_ok=True)
        schema.write(rows, self.root / "statistics" / f"{schema.name}.parquet")

    def results(self) -> list[Path]:
        """The files of all that was measured, of which the summary is made."""
        parts = ("scores", "controls", "spans", "localisation", "divergences")
        return [
            *self.root.glob("*.parquet"),
            *(path for part in parts for path in (self.root / part).rglob("*.parquet")),
        ]

    @property
    def statistics_are_new(self) -> bool:
        """Whether the summary was made, and after all of which it is."""
        made = [path.stat().st_mtime_ns for path in (self.root / "statistics").glob("*.parquet")]
        # Those of an earlier version lack a table, and may have other columns.
        whole = (self.root / "statistics" / f"{HALFWAY.name}.parquet").is_file()
        return whole and min(made) >= max((path.stat().st_mtime_ns for path in self.results()), default=0)

    def training(self) -> pl.DataFrame:
        """The training log."""
        return TRAINING.read(self.training_log)

    def lacking(self, schema: Schema) -> pl.DataFrame:
        """The texts without a row in a table of verdicts, health or ratings."""
        return self.generations().join(schema.read(self._table(schema)), on=_TEXT, how="anti", nulls_equal=True)

    def put_ratings(self, rows: pl.DataFrame) -> None:
        """Add ratings; one that is there for the same prompt, condition and patch is replaced."""
        self._put(RATINGS, rows)

    def put_health(self, rows: pl.DataFrame) -> None:
        """Add the health of texts; what is there for the same prompt, condition and patch is replaced."""
        self._put(HEALTH, rows)

    def put_generations(self, rows: pl.DataFrame) -> None:
        """Add texts; one that is there for the same prompt, condition and patch is replaced."""
        self._put(GENERATIONS, rows)

    def put_behaviour(self, rows: pl.DataFrame) -> None:
        """Add verdicts; one that is there for the same prompt, condition and patch is replaced."""
        self._put(BEHAVIOUR, rows)

    def put_operations(self, rows: pl.DataFrame) -> None:
        """Add verdicts on operations; all that is there for the same prompts, conditions and patches is replaced."""
        self._put(OPERATIONS, rows)

    def read(self) -> dict[str, Any]:
        """The record as it stands; raises UsageError where it is no JSON, or none that a run leaves."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self.record} cannot be read: {error}") from None
        if not isinstance(record, dict) or not {"settings", "stages", "models"} <= record.keys():
            raise UsageError(f"{self.record} is no record of a run: it lacks settings, stages or models")
        if (version := record.get("schema_version", 1)) != SCHEMA_VERSION:
            raise UsageError(
                f"{self.record} has schema version {version!r:.20}, expected {SCHEMA_VERSION}: it was written by "
                f"crosspatch {record.get('crosspatch')!s:.20}, read it with that version, or give --out a new folder"
            )
        for where, value, kinds in _record_parts(record):
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise UsageError(f"{self.record} is damaged: {where[:100]!r} is {repr(value)[:100]}")
        return record

    def done(self, stage: str) -> bool:
        """Whether a stage has been finished."""
        return bool(self.read()["stages"].get(stage, {}).get("state") == "done")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record a stage as running, then as done with its time, or as stopped or failed with the reason.

        The seconds of an interrupted stage are kept and added to.
        """
        before = self.read()["stages"].get(name, {}).get("seconds", 0.0)
        start = time.monotonic()

        def note(state: str, **more: str) -> None:
            spent = round(before + time.monotonic() - start, 2)
            self._note_stage(name, {"state": state, "seconds": spent, "at": _now(), **more})

        note("running")
        try:
            yield
        except KeyboardInterrupt:
            note("stopped")
            raise
        except BaseException as error:
            note("failed", error=f"{type(error).__name__}: {error}")
            raise
        note("done")

    def note_data(self, hashes: dict[str, str]) -> None:
        """Put the SHA-256 of each split's file into the record."""
        self._write({**self.read(), "data": hashes})

    def decisions(self) -> dict[str, str]:
        """What was decided once for the whole run, and is reused when it resumes.

        `date`: the day that chat templates print; `chat_template`: whose is used; `training_precision`: float32 or
        bf16, whichever was measured to train faster.
        """
        return dict(self.read().get("decisions", {}))

    def note_decision(self, name: str, decided: str) -> None:
        """Put a decision into the record."""
        record = self.read()
        self._write({**record, "decisions": {**record.get("decisions", {}), name: decided}})

    def note_model(self, name: str, facts: dict[str, Any]) -> None:
        """Put facts of a model (its origin, its fingerprint) into the record.

        Raises UsageError for another fingerprint than before: results of two models would stand side by side.
        """
        record = self.read()
        before, now = record["models"].get(name, {}).get("fingerprint"), facts.get("fingerprint")
        if before and now and before != now:
            raise UsageError(
                f"the {name} model has changed since this run began (fingerprint {before}, now {now}); give --out a "
                "new folder"
            )
        record["models"][name] = {**record["models"].get(name, {}), **facts}
        self._write(record)

    def _repr_html_(self) -> str:
        return _card(self).html

    def _note_stage(self, name: str, state: dict[str, Any]) -> None:
        record = self.read()
        record["stages"][name] = state
        self._write(record)

    def _must_match(self, experiment: Experiment) -> None:
        # Settings that this version has and the run's did not have are at their defaults there.
        defaults = _flat(Experiment().model_dump(mode="json"))
        mine, theirs = _flat(experiment.model_dump(mode="json")), defaults | _flat(self.read()["settings"])
        # Who does the work is nobody's result.
        for key in sorted(key for key in mine.keys() | theirs.keys() if not key.startswith("execution.")):
            if mine.get(key) != theirs.get(key):
                raise UsageError(
                    f"the folder {self.root} holds another experiment: there {key} is {theirs.get(key)!r}, here "
                    f"{mine.get(key)!r}; give --out a new folder"
                )

    def _parts(self, schema: Schema, pattern: str = "part-*.parquet") -> pl.DataFrame:
        return self._whole(schema, sorted((self.root / schema.name).glob(pattern)))

    def _whole(self, schema: Schema, paths: Sequence[Path]) -> pl.DataFrame:
        """Files of one table, each held to its checksum where one was kept."""
        known = checksums(self.root)
        parts = [schema.loaded(whole(self.root, path, known), path) for path in paths]
        return pl.concat([schema.frame(), *parts])

    def _table(self, schema: Schema) -> Path:
        return self.root / f"{schema.name}.parquet"

    def _put(self, schema: Schema, rows: pl.DataFrame) -> None:
        path = self._table(schema)
        kept = schema.read(path).join(rows, on=_TEXT, how="anti", nulls_equal=True)
        schema.write(pl.concat([kept, rows]), path)

    def _write(self, record: dict[str, Any]) -> None:
        with written_whole(self.record) as partial:
            partial.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _record_parts(record: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Parts of a record that are read from, with what each has to be."""
    for name in ("settings", "stages", "models", "seeds", "versions", "decisions", "data"):
        yield name, record.get(name, {}), dict
    yield "settings.name", record["settings"].get("name", ""), str
    yield "seeds.experiment", record.get("seeds", {}).get("experiment", 0), int
    for name, decided in record.get("decisions", {}).items():
        yield f"decisions.{name}", decided, str
    for name, stage in record["stages"].items():
        yield f"stages.{name}", stage, dict
        yield f"stages.{name}.state", stage.get("state"), str
        yield f"stages.{name}.seconds", stage.get("seconds"), int | float
    for name, facts in record["models"].items():
        yield f"models.{name}", facts, dict
        yield f"models.{name}.layers", facts.get("layers"), int | None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _ours(path: Path) -> bool:
    """Whether a file is what a command leaves that was stopped before there was a record."""
    return path.name == ".lock" or path.match(".run.json.*partial")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# Places that are named without being asked for.
MOST = 8


def _card(run: RunDirectory) -> Card:
    """Stages with their times, models with their fingerprints, claims, the places that localisation names."""
    record = run.read()
    models = [
        (name, str(facts.get("name") or "unknown"), str(facts.get("fingerprint") or "not loaded yet"))
        for name, facts in record["models"].items()
    ]
    parts = [Table(("model", "from", "fingerprint"), models)] if models else []
    said = list(told_places(run))
    if said:
        fold = f"{len(said)} places that carry most" if len(said) > MOST else ""
        parts.append(Table(("localised", "direction", "patched", "what carries most"), said, fold=fold))
    claims = run.statistics(CLAIMS).to_dicts()
    if claims:
        parts.append(claims_table(claims, fold=f"Claims: {counted(row['verdict'] for row in claims)}"))
    report = str(run.report) if run.report.is_file() else f"not made yet: crosspatch report {run.root}"
    facts = [("folder", str(run.root)), *_stages(record["stages"]), ("report", report)]
    return Card(f"Run: {record['settings'].get('name', 'without a name')}", facts, parts, list(_hints(run)))


def told_places(run: RunDirectory) -> Iterator[tuple[str, str, str, str]]:
    """Domain, direction and extent as headings, and a sentence for each component whose places were localised."""
    measured = run.localisation()
    if measured.is_empty():
        return
    domains = run.domains()
    of_prompts = {
        (domains[prompt_id], direction, extent): None
        for prompt_id, direction, extent in measured.select("prompt_id", "direction", "extent")
        .unique(maintain_order=True)
        .iter_rows()
    }
    for domain, direction, extent in of_prompts:
        for named in most_telling(measured, domains, domain, direction, extent=extent, seed=run.seed):
            yield domain_title(domain), direction, EXTENTS[extent], named.sentence


def _stages(stages: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is done on one line; whatever is not, a line each."""
    done = [f"{name} {stage['seconds']:,.0f} s" for name, stage in stages.items() if stage["state"] == "done"]
    yield "done", ", ".join(done) or "no stage yet"
    for name, stage in stages.items():
        if stage["state"] != "done":
            reason = f": {stage['error']}" if "error" in stage else ""
            yield str(stage["state"]), f"{name}, after {stage['seconds']:,.0f} s{reason}"


def _hints(run: RunDirectory) -> Iterator[str]:
    """How to go on with what is there."""
    if any((run.root / "scores").glob("part-*.parquet")):
        yield "run.scores(), run.generations(), run.behaviour(), run.controls()"
        found = variants(run.scores())
        which = "run" if len(found) == 1 else f"run, variant=crosspatch.{found[0]!r}" if found else None
        if which:
            yield f"crosspatch.heatmap({which})"
            yield f"crosspatch.depth_chart({which})"
        yield "crosspatch.Summary.of_run(run)"
    if any((run.root / "localisation").glob("part-*.parquet")):
        yield "crosspatch.head_map(run), crosspatch.Summary.of_run(run).places"
