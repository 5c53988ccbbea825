"""Reading and showing settings: YAML files, `--set key=value`, errors with suggestions, and `--help`."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from crosspatch.characters import half_surrogate
from crosspatch.config import Experiment, Settings
from crosspatch.errors import UsageError

# An experiment is a few hundred settings. Aliases can make a few lines mean billions of values.
_MOST_CHARACTERS, _MOST_VALUES = 1_000_000, 10_000

# Names that settings had before version 0.2.
_RENAMED = {
    "data.untaught": "data.held_out_from_teaching",
    "teach.drills": "teach.arithmetic_exercises",
    "teach.mending": "teach.adapter_finetuning",
    "patch.screen": "patch.attribution",
    "patch.self_check": "patch.quick_check",
    "patch.reach": "patch.target_fraction",
}


@dataclass(frozen=True)
class Setting:
    """One setting as `--help` shows it."""

    key: str
    default: str
    meaning: str


def settings(sections: Iterable[str] | None = None) -> Iterator[Setting]:
    """All settings in order, or those of some sections ("" is the top level)."""
    chosen = None if sections is None else set(sections)
    for name, field in Experiment.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Settings):
            if chosen is None or name in chosen:
                for key, sub in group.model_fields.items():
                    yield Setting(f"{name}.{key}", _shown(sub.default), sub.description or "")
        elif chosen is None or "" in chosen:
            yield Setting(name, _shown(field.default), field.description or "")


def load_experiment(source: str, overrides: Iterable[str] = (), given: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment in a YAML file, or one that ships with crosspatch by its name (smollm2, paper, tiny, …).

    `given` are values by dotted key, `overrides` are `key.sub=value` strings whose values are read as YAML.
    Raises UsageError with one line for a file, key or value that cannot be used.
    """
    tree = _read_yaml(_experiment_text(source), source) or {}
    if not isinstance(tree, dict):
        raise UsageError(f"{source} contains a {type(tree).__name__}, expected settings such as 'seed: 0'")
    return make_experiment(tree, overrides, given)


def make_experiment(
    tree: Mapping[str, Any], overrides: Iterable[str] = (), given: Mapping[str, Any] | None = None
) -> Experiment:
    """Merge settings: a nested mapping, then values `given` by dotted key, then `key.sub=value` strings.

    Raises UsageError.
    """
    changed: dict[str, Any] = deepcopy(dict(tree))
    for key, value in (given or {}).items():
        _put(changed, key, value, f"{key}={value}")
    for override in overrides:
        _override(changed, override)
    # YAML can contain it, and so can bytes of the command line that are not UTF-8; run.json cannot.
    text = json.dumps(changed, ensure_ascii=False, default=str)
    if (half := half_surrogate(text)) is not None:
        setting = re.split("[{}]", text[: half + 1])[-1]
        raise UsageError(f"got half of a surrogate pair, which is not a character, in {setting[-40:]!r}")
    try:
        return Experiment.model_validate(changed)
    except ValidationError as error:
        raise UsageError("; ".join(_explain(e) for e in error.errors())) from None


def shipped_experiments() -> dict[str, Path]:
    """The experiments in the package, by name."""
    package = Path(str(resources.files("crosspatch")))
    # In a checkout the folder is next to src/; in a wheel it is in the package.
    for folder in (package / "experiments", package.parent.parent / "experiments"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def _experiment_text(source: str) -> str:
    path = Path(source)
    if not path.is_file():
        shipped = shipped_experiments()
        if source not in shipped:
            raise UsageError(
                f"no experiment file {source}; give a YAML file or one of {', '.join(shipped) or 'none shipped'}"
            )
        path = shipped[source]
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not a text file in UTF-8") from None


def _read_yaml(text: str, said: str) -> Any:
    """Parse YAML with the safe loader; raises UsageError for text that is not YAML or has too many values."""
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(f"{said} has {len(text):,} characters, expected settings of {_MOST_CHARACTERS:,} at most")
    try:
        tree = yaml.safe_load(text)
        values = _values_in(tree, {})
    except RecursionError:
        raise UsageError(f"{said} is nested too deeply, expected settings") from None
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # The loader raises its own errors, and those of the types that it makes, such as invalid dates.
        raise UsageError(f"{said} is not valid YAML: {' '.join(str(error).split())[:300]}") from None
    if values > _MOST_VALUES:
        raise UsageError(
            f"{said} has more than {_MOST_VALUES:,} values with its aliases written out, expected settings"
        )
    return tree


def _values_in(tree: Any, counted: dict[int, int]) -> int:
    """The number of values, where every use of an alias counts."""
    if not isinstance(tree, dict | list | tuple | set):
        return 1
    if id(tree) not in counted:
        # A value that contains itself has no end.
        counted[id(tree)] = _MOST_VALUES + 1
        inside = [*tree, *tree.values()] if isinstance(tree, dict) else tree
        counted[id(tree)] = 1 + sum(_values_in(value, counted) for value in inside)
    return counted[id(tree)]


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set got {_shortly(override)}, expected key.sub=value, such as finetune.epochs=3")
    _put(tree, key.strip(), _read_yaml(value, f"the value in --set {_shortly(override)}"), override)


def _put(tree: dict[str, Any], key: str, value: Any, said: str) -> None:
    *groups, leaf = key.split(".")
    node = tree
    for group in groups:
        node = node.setdefault(group, {})
        if not isinstance(node, dict):
            raise UsageError(f"--set got {_shortly(said)}, but {group[:100]} is a single setting")
    node[leaf] = value


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"] if part not in {"literal['all']", "tuple[int, ...]"})
    if error["type"] == "extra_forbidden" and key in _RENAMED:
        return f"setting {key} is now called {_RENAMED[key]}"
    if error["type"] == "extra_forbidden":
        known = [setting.key for setting in settings()]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else "; `crosspatch run --help` lists the settings"
        said = key if re.fullmatch(r"[\w.\-]{1,100}", key) else _shortly(key)
        return f"unknown setting {said}{hint}"
    message = error["msg"].removeprefix("Value error, ")
    where = f"setting {key}: " if key else ""
    got = "" if "got" in message or not key else f", got {_shortly(error['input'])}"
    return f"{where}{message[0].lower()}{message[1:]}{got}"


def _shortly(value: object) -> str:
    """A value on one line; a long one is cut."""
    said = repr(value)
    return said if len(said) <= 200 else f"{said[:200]}…"


def _shown(default: object) -> str:
    if isinstance(default, tuple | dict):
        return ", ".join(str(item) for item in default) or "none"
    return "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
