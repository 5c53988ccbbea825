"""run.json: its contents, its validation, and its comparison with an experiment."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from datetime import date as Date
from importlib import metadata
from pathlib import Path
from typing import Any

from crosspatch.config import Experiment
from crosspatch.errors import UsageError

PACKAGES = ("torch", "transformers", "accelerate", "peft", "math-verify", "sympy", "scipy", "polars", "plotly")

# The version of the layout of run.json; other versions are refused.
SCHEMA_VERSION = 4


def new_record(experiment: Experiment) -> dict[str, Any]:
    """The record of a run that begins."""
    return {
        "schema_version": SCHEMA_VERSION,
        "crosspatch": metadata.version("crosspatch"),
        "started": now(),
        "settings": experiment.model_dump(mode="json"),
        "seeds": {"experiment": experiment.seed},
        "versions": versions(),
        "decisions": {"date": Date.today().isoformat()},
        "models": {},
        "stages": {},
    }


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file; raises UsageError if it is not JSON or not a record of this version."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, dict) or not {"settings", "stages", "models"} <= record.keys():
        raise UsageError(f"{path} is no record of a run: it lacks settings, stages or models")
    if (version := record.get("schema_version", 1)) != SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema version {version!r:.20}, expected {SCHEMA_VERSION}: it was written by "
            f"crosspatch {record.get('crosspatch')!s:.20}, read it with that version, or give --out a new folder"
        )
    for where, value, kinds in _parts(record):
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UsageError(f"{path} is damaged: {where[:100]!r} is {repr(value)[:100]}")
    return record


def another_setting(record: Mapping[str, Any], experiment: Experiment) -> str | None:
    """The first setting in which a record's experiment differs from this one, in words; None if all are the same."""
    # A setting that the record does not have yet is at its default there.
    defaults = _flat(Experiment().model_dump(mode="json"))
    mine, theirs = _flat(experiment.model_dump(mode="json")), defaults | _flat(record["settings"])
    # The executor does not change the results.
    for key in sorted(key for key in mine.keys() | theirs.keys() if not key.startswith("execution.")):
        if mine.get(key) != theirs.get(key):
            return f"there {key} is {theirs.get(key)!r}, here {mine.get(key)!r}"
    return None


def _parts(record: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The parts of a record that are read elsewhere, with their types."""
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


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
