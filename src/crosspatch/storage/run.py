"""The run directory: the files of an experiment, and the states of its stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from crosspatch.config import DOMAINS, Experiment
from crosspatch.data.problem import Problem, read_problems
from crosspatch.errors import UsageError
from crosspatch.files import write_json
from crosspatch.html_repr import HtmlRepr, Table
from crosspatch.statistics.claim import claims_table, counted
from crosspatch.statistics.domain import domain_title, with_domain
from crosspatch.statistics.localisation import POSITIONS, top_sites
from crosspatch.statistics.patch_mode import modes
from crosspatch.storage.record import another_setting, new_record, now, read_record
from crosspatch.tables import (
    CLAIMS,
    GENERATIONS,
    LOCALISATION,
    SCHEMAS,
    SCORES,
    STATISTICS,
    SWEPT_TEXTS,
    VOCABULARY,
    Schema,
)


@dataclass(frozen=True)
class RunDirectory:
    """One experiment's folder. Its tables are empty frames until their stage has run."""

    root: Path

    @classmethod
    def start(cls, root: Path, experiment: Experiment) -> RunDirectory:
        """A new or continued run; raises UsageError like `check`."""
        cls.check(root, experiment)
        run = cls(root)
        if run.record_file.is_file():
            return run
        root.mkdir(parents=True, exist_ok=True)
        write_json(run.record_file, new_record(experiment))
        return run

    @classmethod
    def check(cls, root: Path, experiment: Experiment) -> None:
        """Raise UsageError for a folder that holds another experiment or other files; changes nothing."""
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, expected a folder for the results")
        run = cls(root)
        if run.record_file.is_file():
            if (other := another_setting(run.record(), experiment)) is not None:
                raise UsageError(f"the folder {root} holds another experiment: {other}; give --out a new folder")
        elif root.is_dir() and any(not _ours(path) for path in root.iterdir()):
            raise UsageError(f"the folder {root} holds other files and no run.json; give --out a new folder")

    @classmethod
    def existing(cls, root: Path | str) -> RunDirectory:
        """An existing run; raises UsageError if the folder is not a run directory."""
        run = cls(Path(root))
        if not run.record_file.is_file():
            raise UsageError(f"{root} is no run directory: it has no run.json")
        run.record()
        return run

    @property
    def record_file(self) -> Path:
        """run.json."""
        return self.root / "run.json"

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
        """The problems of a split; none if it was not made."""
        path = self.problems_file(split)
        return read_problems(path) if path.is_file() else []

    def splits(self) -> list[str]:
        """The names of the splits that were made."""
        return sorted(path.stem for path in (self.root / "data").glob("*.jsonl"))

    def asked(self) -> dict[str, Problem]:
        """Every problem that models are asked, by prompt_id: held-out problems and given prompts."""
        return {problem.id: problem for split in (*DOMAINS, "prompts") for problem in self.problems(split)}

    def domains(self) -> dict[str, str]:
        """The domain of each of these problems, by prompt_id."""
        return {prompt_id: problem.domain for prompt_id, problem in self.asked().items()}

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return int(self.record().get("seeds", {}).get("experiment", 0))

    @property
    def n_layers(self) -> int | None:
        """The number of blocks of the models; None if neither was loaded yet."""
        return self.record()["models"].get("clean", {}).get("layers")

    def path(self, schema: Schema, *part: str | int) -> Path:
        """The file of a table; of one in parts that of a `part`: its number, of controls the control and the number."""
        return self.root / schema.path(*part)

    def read(self, schema: Schema) -> pl.DataFrame:
        """A table of `crosspatch.tables`, with all its parts; an empty frame if it was not made.

        Raises CrosspatchError if a file is damaged.
        """
        return pl.concat([schema.frame(), *map(schema.read, schema.files(self.root))])

    def write(self, schema: Schema, rows: pl.DataFrame, *part: str | int) -> None:
        """Write a table, or one part of it."""
        path = self.path(schema, *part)
        path.parent.mkdir(parents=True, exist_ok=True)
        schema.write(rows, path)

    def add(self, schema: Schema, rows: pl.DataFrame) -> None:
        """Add rows to a table; existing rows with the same keys are replaced."""
        kept = self.read(schema).join(rows, on=schema.keys, how="anti", nulls_equal=True)
        self.write(schema, pl.concat([kept, rows]))

    def texts(self) -> pl.DataFrame:
        """All texts (the table GENERATIONS), including those of a sweep that is not done."""
        table = self.read(GENERATIONS)
        if self.done("patch") or (swept := self.read(SWEPT_TEXTS)).is_empty():
            return table
        return pl.concat([table.join(swept, on=GENERATIONS.keys, how="anti", nulls_equal=True), swept])

    def lacking(self, schema: Schema) -> pl.DataFrame:
        """The texts without a row in a table of verdicts, health or ratings."""
        return self.texts().join(self.read(schema), on=GENERATIONS.keys, how="anti", nulls_equal=True)

    def vocabulary(self) -> dict[int, str] | None:
        """The texts by id of all tokens in the scores; None if they were not kept."""
        return dict(self.read(VOCABULARY).iter_rows()) or None

    def results(self) -> list[Path]:
        """The files of all measurements, of which the statistics are made."""
        return [path for schema in SCHEMAS if schema not in STATISTICS for path in schema.files(self.root)]

    @property
    def statistics_are_new(self) -> bool:
        """Whether all statistics are newer than the measurements they are made of."""
        made = [self.path(schema) for schema in STATISTICS]
        # Statistics of an earlier version lack a table.
        if not all(path.is_file() for path in made):
            return False
        latest = max((path.stat().st_mtime_ns for path in self.results()), default=0)
        return min(path.stat().st_mtime_ns for path in made) >= latest

    def record(self) -> dict[str, Any]:
        """The contents of run.json; raises UsageError if it is not a record of a run or of another version."""
        return read_record(self.record_file)

    def done(self, stage: str) -> bool:
        """Whether a stage has been finished."""
        return bool(self.record()["stages"].get(stage, {}).get("state") == "done")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record a stage as running, then as done with its time, or as stopped or failed with the reason.

        The seconds of an interrupted stage are kept and added to.
        """
        before = self.record()["stages"].get(name, {}).get("seconds", 0.0)
        start = time.monotonic()

        def note(state: str, **more: str) -> None:
            spent = round(before + time.monotonic() - start, 2)
            self._note_stage(name, {"state": state, "seconds": spent, "at": now(), **more})

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
        write_json(self.record_file, {**self.record(), "data": hashes})

    def decisions(self) -> dict[str, str]:
        """Decisions that are made once and kept when the run resumes.

        `date`: the day that chat templates print; `chat_template`: the model whose template is used;
        `training_precision`: float32 or bf16, whichever trained faster in a measurement.
        """
        return dict(self.record().get("decisions", {}))

    def note_decision(self, name: str, decided: str) -> None:
        """Put a decision into the record."""
        record = self.record()
        write_json(self.record_file, {**record, "decisions": {**record.get("decisions", {}), name: decided}})

    def note_model(self, name: str, facts: dict[str, Any]) -> None:
        """Put facts of a model (its origin, its fingerprint) into the record.

        Raises UsageError for another fingerprint than before: results of two models would be mixed.
        """
        record = self.record()
        before, now = record["models"].get(name, {}).get("fingerprint"), facts.get("fingerprint")
        if before and now and before != now:
            raise UsageError(
                f"the {name} model has changed since this run began (fingerprint {before}, now {now}); give --out a "
                "new folder"
            )
        record["models"][name] = {**record["models"].get(name, {}), **facts}
        write_json(self.record_file, record)

    def _repr_html_(self) -> str:
        return _html_repr(self).html

    def _note_stage(self, name: str, state: dict[str, Any]) -> None:
        record = self.record()
        record["stages"][name] = state
        write_json(self.record_file, record)


def _ours(path: Path) -> bool:
    """Whether a file is left by a command that was stopped before it wrote the record."""
    return path.name.startswith((".lock", ".shared-")) or path.match(".run.json.*partial")


# The most top sites that are not folded.
MOST = 8


def _html_repr(run: RunDirectory) -> HtmlRepr:
    """Stages with their times, models with their fingerprints, claims, top sites."""
    record = run.record()
    models = [
        (name, str(facts.get("name") or "unknown"), str(facts.get("fingerprint") or "not loaded yet"))
        for name, facts in record["models"].items()
    ]
    parts = [Table(("model", "from", "fingerprint"), models)] if models else []
    sites = list(top_site_rows(run))
    if sites:
        fold = f"{len(sites)} top sites" if len(sites) > MOST else ""
        parts.append(Table(("localised", "direction", "patched", "what carries most"), sites, fold=fold))
    claims = run.read(CLAIMS).to_dicts()
    if claims:
        parts.append(claims_table(claims, fold=f"Claims: {counted(row['verdict'] for row in claims)}"))
    report = str(run.report) if run.report.is_file() else f"not made yet: crosspatch report {run.root}"
    facts = [("folder", str(run.root)), *_stages(record["stages"]), ("report", report)]
    return HtmlRepr(f"Run: {record['settings'].get('name', 'without a name')}", facts, parts, list(_hints(run)))


def top_site_rows(run: RunDirectory) -> Iterator[tuple[str, str, str, str]]:
    """Domain, direction and positions as headings, and a sentence for each top site."""
    measured, domains = run.read(LOCALISATION), run.domains()
    place = ("domain", "direction", "positions")
    for domain, direction, positions in with_domain(measured, domains).select(place).unique(maintain_order=True).rows():
        for site in top_sites(measured, domains, domain, direction, positions=positions, seed=run.seed):
            yield domain_title(domain), direction, POSITIONS[positions], site.sentence


def _stages(stages: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The finished stages on one line, each other one on its own."""
    done = [f"{name} {stage['seconds']:,.0f} s" for name, stage in stages.items() if stage["state"] == "done"]
    yield "done", ", ".join(done) or "no stage yet"
    for name, stage in stages.items():
        if stage["state"] != "done":
            reason = f": {stage['error']}" if "error" in stage else ""
            yield str(stage["state"]), f"{name}, after {stage['seconds']:,.0f} s{reason}"


def _hints(run: RunDirectory) -> Iterator[str]:
    """Calls to continue with."""
    if SCORES.files(run.root):
        yield "run.read(SCORES), with SCORES and all other tables from crosspatch.tables"
        found = modes(run.read(SCORES))
        which = "run" if len(found) == 1 else f"run, mode=crosspatch.{found[0]!r}" if found else None
        if which:
            yield f"crosspatch.heatmap({which})"
            yield f"crosspatch.depth_chart({which})"
        yield "crosspatch.Summary.of_run(run)"
    if LOCALISATION.files(run.root):
        yield "crosspatch.head_map(run), crosspatch.Summary.of_run(run).site_effects"
