"""Reads and writes files with one text or one JSON object per line; errors name the line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from crosspatch.errors import UsageError
from crosspatch.files import written_whole

_LONGEST = 10_000_000  # the maximum number of bytes per line in a user's file


def write_lines(path: Path, objects: Iterable[Mapping[str, Any]]) -> None:
    """Write one object per line, in UTF-8; the file is written completely or not at all."""
    lines = [json.dumps(values, ensure_ascii=False) + "\n" for values in objects]
    with written_whole(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8")


def read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the JSON objects of a JSONL file with their line numbers from 1; blank lines are skipped.

    Raises UsageError, with the line's number, for anything else.
    """
    return [(number, json_object(path, number, text)) for number, text in numbered_lines(path) if text.strip()]


def json_object(path: Path, number: int, text: str) -> dict[str, Any]:
    """Parse the JSON object on a line; raises UsageError, with the line's number, for anything else."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {number}: not JSON ({error.msg})") from None
    except (ValueError, RecursionError):  # a number with thousands of digits, or brackets nested as deep
        raise UsageError(f"{path}, line {number}: JSON that is too large to read") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}, line {number}: got a {type(value).__name__}, expected an object")
    return value


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers from 1, without byte order mark and CR; reads no line beyond the limit.

    Raises UsageError, with the line's number, for a line that is too long, is not UTF-8 or has a NUL byte, and for a
    file that cannot be read.
    """
    number = 0
    try:
        with path.open("rb") as file:
            while raw := file.readline(_LONGEST + 1):
                number += 1
                if b"\0" in raw:
                    raise UsageError(f"{path}, line {number}: has a NUL byte, expected text in UTF-8")
                if len(raw) > _LONGEST:
                    raise UsageError(f"{path}, line {number}: longer than {_LONGEST:,} bytes")
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, line[:-2] + "\n" if line.endswith("\r\n") else line
    except UnicodeDecodeError:
        raise UsageError(f"{path}, line {number}: not text in UTF-8") from None
    except FileNotFoundError:
        raise UsageError(f"no file {path}") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder, expected a CSV or JSONL file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
