"""The record of a run, run.json: create it, validate it, and compare it with an experiment."""

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

# The schema version of run.json; records with other versions are rejected.
SCHEMA_VERSION = 4


def new_record(experiment: Experiment) -> dict[str, Any]:
    """Create the record of a new run."""
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
    """Read a record from a file; raises UsageError if it is not JSON or not a record of this schema version."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, dict) or not {"settings", "stages", "models"} <= record.keys():
        raise UsageError(f"{path} is not the record of a run: expected settings, stages and models in it")
    if (version := record.get("schema_version", 1)) != SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema version {version!r:.20}, expected {SCHEMA_VERSION}: it was written by "
            f"crosspatch {record.get('crosspatch')!s:.20}; use that version, or give --out a new folder"
        )
    for where, value, kinds in _parts(record):
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UsageError(f"{path} is damaged: {where[:100]!r} is {repr(value)[:100]}")
    return record


def another_setting(record: Mapping[str, Any], experiment: Experiment) -> str | None:
    """Describe the first setting in which a record's experiment differs from this one; None if all are equal."""
    # Settings that an older record does not have are at their defaults.
    defaults = _flat(Experiment().model_dump(mode="json"))
    mine, theirs = _flat(experiment.model_dump(mode="json")), defaults | _flat(record["settings"])
    # Settings of the execution do not change the results.
    for key in sorted(key for key in mine.keys() | theirs.keys() if not key.startswith("execution.")):
        if mine.get(key) != theirs.get(key):
            return f"its {key} is {theirs.get(key)!r}, not {mine.get(key)!r}"
    return None


def _parts(record: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, value and expected type of each part of a record that other code reads."""
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
    """Return the versions of Python and of the packages that results depend on."""
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
    """Return the current time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
