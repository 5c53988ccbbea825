"""`crosspatch export`: what a run holds, in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from crosspatch.cli.application import app, console


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory")],
    to: Annotated[
        Literal["inspect"],
        typer.Option("--to", help="inspect: logs of Inspect AI, one for each model, patched or not, in RUN/inspect"),
    ] = "inspect",
) -> None:
    """Write all results of a run as Inspect AI logs, to be read with `inspect view` or as its data frames."""
    from crosspatch.storage.inspect_logs.export import write_inspect_logs
    from crosspatch.storage.run import RunDirectory

    logs = write_inspect_logs(RunDirectory.existing(run))
    folder = logs[0].parent
    console.print(f"{len(logs)} logs; read them with: {to} view start --log-dir {folder}", soft_wrap=True)
