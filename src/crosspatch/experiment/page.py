"""The report stage: figures, the page, and the texts as Markdown; made anew while a run goes on."""

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
    """Figures and page of what is there by now."""
    write_run_report(context.directory)
    logger.info(f"report: {context.directory.report}")


def write_run_report(directory: RunDirectory, *, figures: bool = True, refresh: int | None = None) -> None:
    """Make the summary's tables, report.html, report.md and the figures from what a run directory holds.

    Without `figures` they stay as they are; `refresh` are seconds after which the page loads itself anew.
    """
    from crosspatch.report.markdown import write_markdown
    from crosspatch.report.page import write_report
    from crosspatch.report.print.figures import write_figures
    from crosspatch.storage.summary import Summary

    record = directory.record()
    summary = Summary.of_run(directory)
    summary.write(directory)
    measured: dict[str, Any] = {"problems": directory.asked(), "scores": directory.read(SCORES), "summary": summary}
    told: dict[str, Any] = {
        "title": record["settings"]["name"],
        "generations": directory.texts(),
        "behaviour": directory.read(BEHAVIOUR),
    }
    training = directory.read(TRAINING)
    if figures:
        write_figures(directory.figures, training=training, **measured)
    write_markdown(directory.markdown, n_layers=directory.n_layers, **told, **measured)
    write_report(
        directory.report,
        run=record,
        training=training,
        health=directory.read(HEALTH),
        searched=directory.read(VARIANTS),
        texts=directory.vocabulary(),
        refresh=refresh,
        **told,
        **measured,
    )


def watch(directory: RunDirectory, every: int, *, wait: Callable[[float], None] = time.sleep) -> None:
    """Write the page every so many seconds that brought something new, until no stage of the run is going on.

    A page that is open loads itself anew. The last one has the figures too. Between two stages a run seems at rest, so
    that has to last for two looks.
    """
    seen, idle = None, 0
    while True:
        there, stages = _there(directory), _running(directory)
        idle = 0 if stages else idle + 1
        if idle == 2:
            break
        # The run's own report is under way.
        if there != seen and stages != {"report"}:
            write_run_report(directory, figures=False, refresh=every)
            logger.info(f"{time.strftime('%H:%M:%S')} {directory.report}")
            seen = there
        wait(every)
    write_run_report(directory)
    logger.info(f"no stage is running; the report is complete as far as the run is: {directory.report}")


def _there(directory: RunDirectory) -> list[tuple[Path, int, int]]:
    # What the report writes itself (statistics, figures) is no news.
    found = [directory.record_file, *directory.results()]
    return sorted((path, path.stat().st_mtime_ns, path.stat().st_size) for path in found)


def _running(directory: RunDirectory) -> set[str]:
    return {name for name, stage in directory.record()["stages"].items() if stage.get("state") == "running"}
