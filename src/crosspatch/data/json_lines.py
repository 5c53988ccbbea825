"""Files of JSON objects, one a line. Knows nothing of what stands in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crosspatch.errors import UsageError
from crosspatch.files import written_whole


def write_lines(path: Path, objects: Iterable[Mapping[str, Any]]) -> None:
    """One object a line, UTF-8; the file is there as a whole or not at all."""
    lines = [json.dumps(values, ensure_ascii=False) + "\n" for values in objects]
    with written_whole(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8")


def read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The JSON objects of a JSONL file with their line numbers from 1; blank lines are passed over.

    Raises UsageError, with the line's number, for anything else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"no file {path}") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder, expected a JSONL file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file in UTF-8") from None
    objects = []
    # Not splitlines: that also cuts at U+2028 and the like, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}, line {number}: not JSON ({error.msg})") from None
        except (ValueError, RecursionError):  # a number of thousands of digits, brackets nested as deep
            raise UsageError(f"{path}, line {number}: JSON that is too large to read") from None
        if not isinstance(value, dict):
            raise UsageError(f"{path}, line {number}: got a {type(value).__name__}, expected an object")
        objects.append((number, value))
    return objects
