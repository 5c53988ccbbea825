"""The lines of a text file of somebody else's: read one by one, and refused where they are no text.

Knows nothing of what stands in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crosspatch.errors import UsageError

_LONGEST = 10_000_000  # bytes of a line


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines with their numbers from 1, without byte order mark and CR; of none is more read than it may hold.

    Raises UsageError, with the line's number, for a line that is too long, not UTF-8 or holds a NUL byte, and for a
    file that cannot be read.
    """
    number = 0
    try:
        with path.open("rb") as file:
            while raw := file.readline(_LONGEST + 1):
                number += 1
                if b"\0" in raw:
                    raise UsageError(f"{path}, line {number}: holds a NUL byte, expected text in UTF-8")
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
