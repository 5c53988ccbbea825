"""The report stage: figures, the page and the texts as Markdown, for finished runs and for runs in progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crosspatch.experiment.run_context import RunContext
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, HEALTH, SCORES, TRAINING, VARIANTS

logger = logging.getLogger(__name__)


def make_report(context: RunContext) -> None:
    """Make the report of the results so far."""
    write_run_report(context.directory)
    logger.info(f"report: {context.directory.report}")


def write_run_report(directory: RunDirectory, *, figures: bool = True, refresh: int | None = None) -> None:
    """Make the statistics, report.html, report.md and the figures of a run directory.

    Figures are not made again if `figures` is false; `refresh` is the number of seconds after which the page reloads.
    """
    from crosspatch.report.markdown import write_markdown
    from crosspatch.report.page import write_report
    from crosspatch.report.print.figures import write_figures
    from crosspatch.storage.summary import Summary

    record = directory.record()
    summary = Summary.of_run(directory)
    summary.write(directory)
    measured: dict[str, Any] = {"problems": directory.asked(), "scores": directory.read(SCORES), "summary": summary}
    shared: dict[str, Any] = {
        "title": record["settings"]["name"],
        "generations": directory.texts(),
        "behaviour": directory.read(BEHAVIOUR),
    }
    training = directory.read(TRAINING)
    if figures:
        write_figures(directory.figures, training=training, **measured)
    write_markdown(directory.markdown, n_layers=directory.n_layers, **shared, **measured)
    write_report(
        directory.report,
        run=record,
        training=training,
        health=directory.read(HEALTH),
        searched=directory.read(VARIANTS),
        texts=directory.vocabulary(),
        refresh=refresh,
        **shared,
        **measured,
    )


def watch(directory: RunDirectory, every: int, *, wait: Callable[[float], None] = time.sleep) -> None:
    """Write the page every `every` seconds if there are new results, until no stage of the run is running.

    An open page reloads itself. Figures are made for the final page only. No stage is running between two stages
    either, so the run counts as ended after two such checks in a row.
    """
    seen, idle = None, 0
    while True:
        there, stages = _there(directory), _running(directory)
        idle = 0 if stages else idle + 1
        if idle == 2:
            break
        # While the run makes its report, no page is written here.
        if there != seen and stages != {"report"}:
            write_run_report(directory, figures=False, refresh=every)
            logger.info(f"{time.strftime('%H:%M:%S')} {directory.report}")
            seen = there
        wait(every)
    write_run_report(directory)
    logger.info(f"no stage is running; the report shows all results so far: {directory.report}")


def _there(directory: RunDirectory) -> list[tuple[Path, int, int]]:
    # Statistics and figures, which the report writes itself, do not count.
    found = [directory.record_file, *directory.results()]
    return sorted((path, path.stat().st_mtime_ns, path.stat().st_size) for path in found)


def _running(directory: RunDirectory) -> set[str]:
    return {name for name, stage in directory.record()["stages"].items() if stage.get("state") == "running"}
