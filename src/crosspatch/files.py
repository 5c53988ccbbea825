"""Files that are written whole or not at all, and checksums that detect damage."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it is renamed to `path` on success, and removed otherwise."""
    # Each process has its own temporary file: of two that write the same file the last one wins.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        # The contents must be on the disk before the name, in case the power fails.
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def checksum(content: bytes) -> str:
    """The SHA-256 of a file's contents, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """The path of a scratch folder, not made yet; it is renamed to `folder` on success, and removed otherwise."""
    scratch = partial_of(folder)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        yield scratch
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_json(path: Path, content: object, indent: int = 2) -> None:
    """Write a JSON file as a whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def remove_half_written(root: Path) -> None:
    """Remove the temporary files of killed processes in a folder; files of running processes stay."""
    import psutil

    for partial in root.rglob(".*.partial"):
        process = re.search(r"\.(\d+)\.partial$", partial.name)
        if process and partial.is_file() and not psutil.pid_exists(int(process[1])):
            partial.unlink(missing_ok=True)


def partial_of(path: Path) -> Path:
    """The hidden name under which a folder or file is written until it is complete."""
    return path.with_name(f".{path.name}.partial")
