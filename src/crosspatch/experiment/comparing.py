"""A page that compares several run directories."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from crosspatch.errors import UsageError
from crosspatch.report.comparison import ComparedRun, render_comparison
from crosspatch.report.template import write_page
from crosspatch.storage.run import RunDirectory
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, CLAIMS, DEPTH


def write_comparison(directories: Sequence[RunDirectory], folder: Path) -> Path:
    """Write report.html into a folder and return its path.

    Raises UsageError if a run is named twice, or if the folder is a run directory itself.
    """
    if (folder / "run.json").exists():
        raise UsageError(f"{folder} is a run directory, whose own report.html would be lost; give --out another folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, expected a folder for the comparison")
    roots = [directory.root.resolve() for directory in directories]
    if twice := next((root for root in roots if roots.count(root) > 1), None):
        raise UsageError(f"{twice} is named twice; name each run once")
    labels = _labels(roots)
    runs = [compared(*each, folder) for each in zip(directories, labels, strict=True)]
    page = render_comparison(runs, " and ".join(labels) if len(labels) == 2 else f"{len(labels)} runs")
    return write_page(folder / "report.html", page)


def compared(directory: RunDirectory, label: str, folder: Path) -> ComparedRun:
    """The page's entry for a run; links are relative to `folder`. Missing or outdated statistics are computed first."""
    if not directory.statistics_are_new:
        Summary.of_run(directory).write(directory)
    report = os.path.relpath(directory.report.resolve(), folder.resolve())
    return ComparedRun(
        label,
        directory.record(),
        directory.read(DEPTH),
        directory.read(CLAIMS),
        directory.read(BEHAVIOUR),
        directory.n_layers,
        quote(os.fsencode(Path(report).as_posix())) if directory.report.is_file() else None,
    )


def _labels(roots: Sequence[Path]) -> list[str]:
    """The folders' names, with as many parent folders as make them different."""
    for parts in range(1, max(len(root.parts) for root in roots)):
        names = ["/".join(root.parts[-parts:]) for root in roots]
        if len(set(names)) == len(names):
            return names
    return [str(root) for root in roots]
