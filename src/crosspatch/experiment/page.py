"""The report stage: figures, the page, and the texts as Markdown."""

from __future__ import annotations

from typing import Any

from crosspatch.experiment.work import Work
from crosspatch.results.run import RunDirectory


def make_report(work: Work) -> None:
    """Figures and page of what is there by now."""
    write_run_report(work.directory)
    work.say(f"report: {work.directory.report}")


def write_run_report(directory: RunDirectory) -> None:
    """Make the summary's tables, report.html, report.md and the figures from what a run directory holds."""
    from crosspatch.report.figures import write_figures
    from crosspatch.report.markdown import write_markdown
    from crosspatch.report.page import write_report
    from crosspatch.results.summary import Summary

    record = directory.read()
    problems = directory.asked()
    summary = Summary.of_run(directory)
    summary.write(directory)
    tables: dict[str, Any] = {
        "scores": directory.scores(),
        "training": directory.training(),
        "summary": summary,
    }
    texts: dict[str, Any] = {
        "title": record["settings"]["name"],
        "problems": problems,
        "generations": directory.generations(),
        "behaviour": directory.behaviour(),
    }
    write_figures(directory.figures, problems=problems, **tables)
    write_markdown(directory.markdown, scores=tables["scores"], summary=summary, n_layers=directory.n_layers, **texts)
    write_report(
        directory.report,
        run=record,
        health=directory.health(),
        searched=directory.variants(),
        texts=directory.vocabulary(),
        **texts,
        **tables,
    )
