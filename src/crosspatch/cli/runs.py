"""Commands about a run directory: `status`, its progress and failures; `export` to Inspect AI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from crosspatch.cli.application import app, check_output, console, duration, print_rows
from crosspatch.files import write_json


@app.command()
def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory")],
    json_out: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write the same as JSON")] = None,
) -> None:
    """Show the progress of a run: its stages, their shards, the time per shard, and the time left.

    The command only reads files, so it works on any machine while the run continues. It checks finished shards for
    damage.
    """
    from crosspatch.storage.progress import progress
    from crosspatch.storage.run import RunDirectory

    check_output(json_out)
    stages = progress(RunDirectory.existing(run))
    if json_out is not None:
        write_json(json_out, [stage.to_dict() for stage in stages])
    print_rows(
        f"Stages of {run}",
        [
            {
                "stage": stage.stage,
                "state": stage.state,
                "shards done": f"{stage.done} of {total}" if (total := _total(stage)) else "",
                "running": str(stage.running) if total else "",
                "failed": str(stage.failed) if total else "",
                "per shard": duration(stage.seconds),
                "left": duration(stage.seconds_left),
            }
            for stage in stages
        ],
    )
    for stage in stages:
        for worker in stage.workers:
            console.print(f"{stage.stage}: running: {worker}", soft_wrap=True)
        for failure in stage.failures:
            console.print(
                f"{stage.stage}: shard {failure.shard} failed, {failure.tries} tries: {failure.error}", soft_wrap=True
            )
        for wrong in stage.damaged:
            console.print(f"{stage.stage}: {wrong}; run the stage again to replace it", soft_wrap=True)
    if not stages:
        console.print("no stage has started")


def _total(stage: object) -> int:
    return sum(getattr(stage, name) for name in ("done", "running", "failed", "waiting"))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory")],
    to: Annotated[
        Literal["inspect"],
        typer.Option("--to", help="inspect: Inspect AI logs in RUN/inspect, one for each model, patched or unpatched"),
    ] = "inspect",
) -> None:
    """Write all results of a run as Inspect AI logs, for `inspect view` or Inspect's data frames."""
    from crosspatch.storage.inspect_logs import write_inspect_logs
    from crosspatch.storage.run import RunDirectory

    logs = write_inspect_logs(RunDirectory.existing(run))
    folder = logs[0].parent
    console.print(f"{len(logs)} logs; read them with: {to} view start --log-dir {folder}", soft_wrap=True)
