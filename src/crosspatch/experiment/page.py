"""The report stage: figures, the page, and the texts as Markdown."""

from __future__ import annotations

from typing import Any

from crosspatch.experiment.work import Work
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, HEALTH, SCORES, TRAINING, VARIANTS


def make_report(work: Work) -> None:
    """Figures and page of what is there by now."""
    write_run_report(work.directory)
    work.say(f"report: {work.directory.report}")


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
