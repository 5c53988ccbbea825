"""A run's record as rows of a table: nested settings with their keys joined by dots, values as JSON, all legible.

Knows nothing of what a setting means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from crosspatch.characters import legible


def settings_tables(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The record as titled tables: its single values first, then one for each mapping in it."""
    single = [(str(key), value) for key, value in run.items() if not isinstance(value, Mapping)]
    tables: list[tuple[str, Mapping[str, Any]]] = [("run", dict(single))] if single else []
    tables += [(str(key), value) for key, value in run.items() if isinstance(value, Mapping)]
    return [(legible(name), list(flat(tree))) for name, tree in tables]


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, value) of every single value in nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield legible(f"{prefix}{key}"), legible(text)
