"""The run directory: an experiment's files and the states of its stages."""

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
    """The folder of one experiment. A table is an empty frame until its stage has run.

    run = RunDirectory.existing("runs/smollm2")
    run.read(crosspatch.tables.SCORES)
    """

    root: Path

    @classmethod
    def start(cls, root: Path, experiment: Experiment) -> RunDirectory:
        """Start or resume a run; raises UsageError like `check`."""
        cls.check(root, experiment)
        run = cls(root)
        if run.record_file.is_file():
            return run
        root.mkdir(parents=True, exist_ok=True)
        write_json(run.record_file, new_record(experiment))
        return run

    @classmethod
    def check(cls, root: Path, experiment: Experiment) -> None:
        """Raise UsageError if the folder has another experiment or other files; changes nothing."""
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, expected a folder for the results")
        run = cls(root)
        if run.record_file.is_file():
            if (other := another_setting(run.record(), experiment)) is not None:
                raise UsageError(f"the folder {root} has another experiment: {other}; give --out a new folder")
        elif root.is_dir() and any(not _ours(path) for path in root.iterdir()):
            raise UsageError(f"the folder {root} has other files but no run.json; give --out a new folder")

    @classmethod
    def existing(cls, root: Path | str) -> RunDirectory:
        """Open an existing run; raises UsageError if the folder is not a run directory."""
        run = cls(Path(root))
        if not run.record_file.is_file():
            raise UsageError(f"{root} is not a run directory: it has no run.json")
        run.record()
        return run

    @property
    def record_file(self) -> Path:
        """The path of run.json."""
        return self.root / "run.json"

    @property
    def lessons(self) -> Path:
        """The folder with the training texts of a taught model."""
        return self.root / "lessons"

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.root / "figures"

    @property
    def report(self) -> Path:
        """The path of report.html."""
        return self.root / "report.html"

    @property
    def markdown(self) -> Path:
        """The path of report.md."""
        return self.root / "report.md"

    def model(self, name: str) -> Path:
        """Return the folder of a model: `clean`, `corrupted` or another child."""
        return self.root / "models" / name

    def problems_file(self, split: str) -> Path:
        """Return the JSONL file of a split: train, validation, one of the domains, or prompts."""
        return self.root / "data" / f"{split}.jsonl"

    def problems(self, split: str) -> list[Problem]:
        """Read the problems of a split; empty if the split does not exist."""
        path = self.problems_file(split)
        return read_problems(path) if path.is_file() else []

    def splits(self) -> list[str]:
        """Return the names of the existing splits."""
        return sorted(path.stem for path in (self.root / "data").glob("*.jsonl"))

    def asked(self) -> dict[str, Problem]:
        """Return all problems that the models answer, by prompt_id: held-out problems and given prompts."""
        return {problem.id: problem for split in (*DOMAINS, "prompts") for problem in self.problems(split)}

    def domains(self) -> dict[str, str]:
        """Map the prompt_id of each of these problems to its domain."""
        return {prompt_id: problem.domain for prompt_id, problem in self.asked().items()}

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return int(self.record().get("seeds", {}).get("experiment", 0))

    @property
    def n_layers(self) -> int | None:
        """The models' number of blocks; None if the clean model was not loaded yet."""
        return self.record()["models"].get("clean", {}).get("layers")

    def path(self, schema: Schema, *part: str | int) -> Path:
        """Return the file of a table, or of one `part`: the part's number, for controls the control and the number."""
        return self.root / schema.path(*part)

    def read(self, schema: Schema) -> pl.DataFrame:
        """Read a table of `crosspatch.tables` with all its parts; an empty frame if no file exists.

        Raises CrosspatchError if a file is damaged.
        """
        return pl.concat([schema.frame(), *map(schema.read, schema.files(self.root))])

    def write(self, schema: Schema, rows: pl.DataFrame, *part: str | int) -> None:
        """Write a table, or one `part` of it."""
        path = self.path(schema, *part)
        path.parent.mkdir(parents=True, exist_ok=True)
        schema.write(rows, path)

    def add(self, schema: Schema, rows: pl.DataFrame) -> None:
        """Add rows to a table; existing rows with the same keys are replaced."""
        kept = self.read(schema).join(rows, on=schema.keys, how="anti", nulls_equal=True)
        self.write(schema, pl.concat([kept, rows]))

    def texts(self) -> pl.DataFrame:
        """Return all texts (table GENERATIONS), including the texts of an unfinished sweep."""
        table = self.read(GENERATIONS)
        if self.done("patch") or (swept := self.read(SWEPT_TEXTS)).is_empty():
            return table
        return pl.concat([table.join(swept, on=GENERATIONS.keys, how="anti", nulls_equal=True), swept])

    def lacking(self, schema: Schema) -> pl.DataFrame:
        """Return the texts that have no row in a table of verdicts, health or ratings."""
        return self.texts().join(self.read(schema), on=GENERATIONS.keys, how="anti", nulls_equal=True)

    def vocabulary(self) -> dict[int, str] | None:
        """Map the ids of all tokens in the scores to their texts; None if the run has no vocabulary."""
        return dict(self.read(VOCABULARY).iter_rows()) or None

    def results(self) -> list[Path]:
        """Return the files of all measurements, from which the statistics are computed."""
        return [path for schema in SCHEMAS if schema not in STATISTICS for path in schema.files(self.root)]

    @property
    def statistics_are_new(self) -> bool:
        """Whether all statistics are at least as new as the measurements."""
        made = [self.path(schema) for schema in STATISTICS]
        # A run of an earlier version may not have all tables of statistics.
        if not all(path.is_file() for path in made):
            return False
        latest = max((path.stat().st_mtime_ns for path in self.results()), default=0)
        return min(path.stat().st_mtime_ns for path in made) >= latest

    def record(self) -> dict[str, Any]:
        """Read run.json; raises UsageError if it is not the record of a run, or has another schema version."""
        return read_record(self.record_file)

    def done(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return bool(self.record()["stages"].get(stage, {}).get("state") == "done")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record a stage as running, then as done, stopped (interrupted) or failed (with the error).

        The recorded seconds add up over interruptions.
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
        """Record the SHA-256 of each split's file."""
        write_json(self.record_file, {**self.record(), "data": hashes})

    def decisions(self) -> dict[str, str]:
        """Return the decisions that are made once and kept when the run resumes.

        `date`: the date in chat templates; `chat_template`: the model whose template is used; `training_precision`:
        float32 or bf16, whichever was faster when measured.
        """
        return dict(self.record().get("decisions", {}))

    def note_decision(self, name: str, decided: str) -> None:
        """Record a decision."""
        record = self.record()
        write_json(self.record_file, {**record, "decisions": {**record.get("decisions", {}), name: decided}})

    def note_model(self, name: str, facts: dict[str, Any]) -> None:
        """Record facts about a model, such as its origin and fingerprint.

        Raises UsageError if the fingerprint has changed, since the run would mix the results of two models.
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
    """Whether a file was left by a command that stopped before it wrote the record."""
    return path.name.startswith((".lock", ".shared-")) or path.match(".run.json.*partial")


# With more top sites than this, their table is folded.
MOST = 8


def _html_repr(run: RunDirectory) -> HtmlRepr:
    """Build the HTML representation: stages with times, models with fingerprints, claims, top sites."""
    record = run.record()
    models = [
        (name, str(facts.get("name") or "unknown"), str(facts.get("fingerprint") or "not loaded yet"))
        for name, facts in record["models"].items()
    ]
    parts = [Table(("model", "from", "fingerprint"), models)] if models else []
    sites = list(top_site_rows(run))
    if sites:
        fold = f"{len(sites)} top sites" if len(sites) > MOST else ""
        parts.append(Table(("localised", "direction", "patched", "top site"), sites, fold=fold))
    claims = run.read(CLAIMS).to_dicts()
    if claims:
        parts.append(claims_table(claims, fold=f"Claims: {counted(row['verdict'] for row in claims)}"))
    report = str(run.report) if run.report.is_file() else f"not made yet: crosspatch report {run.root}"
    facts = [("folder", str(run.root)), *_stages(record["stages"]), ("report", report)]
    return HtmlRepr(f"Run: {record['settings'].get('name', 'without a name')}", facts, parts, list(_hints(run)))


def top_site_rows(run: RunDirectory) -> Iterator[tuple[str, str, str, str]]:
    """Yield the domain's title, the direction, the positions in words, and a sentence, for each top site."""
    measured = run.read(LOCALISATION)
    domains = {} if measured.is_empty() else run.domains()
    place = ("domain", "direction", "positions")
    for domain, direction, positions in with_domain(measured, domains).select(place).unique(maintain_order=True).rows():
        for site in top_sites(measured, domains, domain, direction, positions=positions, seed=run.seed):
            yield domain_title(domain), direction, POSITIONS[positions], site.sentence


def _stages(stages: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield one line with all finished stages, and one line for each other stage."""
    done = [f"{name} {stage['seconds']:,.0f} s" for name, stage in stages.items() if stage["state"] == "done"]
    yield "done", ", ".join(done) or "no stage yet"
    for name, stage in stages.items():
        if stage["state"] != "done":
            reason = f": {stage['error']}" if "error" in stage else ""
            yield str(stage["state"]), f"{name}, after {stage['seconds']:,.0f} s{reason}"


def _hints(run: RunDirectory) -> Iterator[str]:
    """Yield suggested calls for exploring the run."""
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
