"""The application, the options and printing that its commands share, and running the stages of a command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

import crosspatch
from crosspatch.config import Experiment
from crosspatch.errors import UsageError
from crosspatch.settings_io import load_experiment, settings, shipped_experiments

if TYPE_CHECKING:
    from crosspatch.storage.run import RunDirectory

# A log file or a pipe has no width; 80 columns would break every row of a table.
console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)

# The commands in the order of `--help`, each with the sections of settings that it reads ("" is the top level).
_SECTIONS: dict[str, tuple[str, ...] | None] = {
    "demo": (),
    "run": None,
    "data": ("", "data"),
    "build": ("", "data"),
    "finetune": ("", "models", "data", "finetune"),
    "search": ("", "models", "data", "finetune", "search", "generation", "judge"),
    "teach": ("", "models", "data", "finetune", "teach", "generation", "judge"),
    "evaluate": ("", "models", "data", "generation", "judge"),
    "patch": ("", "models", "generation", "judge", "patch", "execution"),
    "controls": ("", "models", "generation", "patch", "execution"),
    "score-mistakes": ("", "models", "generation", "patch", "execution"),
    "localise": ("", "models", "generation", "patch", "localise"),
    "lenses": ("", "models", "generation", "judge", "patch", "lenses"),
    "report": ("",),
    "status": (),
    "export": (),
    "grade": (),
    "verify": ("models",),
}

# Names that commands and options had before version 0.2.
_OLD_COMMANDS = {"spans": "score-mistakes"}
_OLD_OPTIONS = {
    "--screen": "--attribution",
    "--reach": "--target-fraction",
    "--site": "--patch",
    "--self-check": "--quick-check",
    "--no-self-check": "--no-quick-check",
}


class Commands(TyperGroup):
    """The commands in the order of an experiment's stages, not of their definition."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Accept the old names of commands, which `--help` does not list."""
        return super().get_command(ctx, _OLD_COMMANDS.get(cmd_name, cmd_name))

    def list_commands(self, ctx: Any) -> list[str]:
        """The names as `--help` shows them."""
        return sorted(self.commands, key=list(_SECTIONS).index)


app = typer.Typer(
    cls=Commands,
    help="Find out where in a network, and at which tokens, a fine-tune acts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class StageCommand(TyperCommand):
    """A subcommand whose help ends with the settings it reads."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept the old names of options, which `--help` does not list."""
        parts = (arg.partition("=") for arg in args)
        return super().parse_args(ctx, ["".join((_OLD_OPTIONS.get(name, name), *rest)) for name, *rest in parts])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The usual help, then each setting without an option, with its default and meaning."""
        super().format_help(ctx, formatter)
        options = " ".join(getattr(param, "help", None) or "" for param in self.params)
        print_settings(self.name or "run", options)


def print_settings(command: str, options: str = "") -> None:
    """Print the settings that a command reads, without those that its `options` name: key, default and meaning."""
    table = Table(title="Settings (in the experiment file, or --set key=value)", title_justify="left", box=None)
    table.add_column("setting", style="cyan", no_wrap=True)
    table.add_column("default", style="yellow", max_width=30)
    table.add_column("meaning")
    for setting in settings(_SECTIONS[command]):
        if f"({setting.key})" not in options:
            table.add_row(setting.key, setting.default, setting.meaning)
    console.print(table)


_MEANINGS = {setting.key: setting.meaning for setting in settings()}


def setting_option(key: str, *names: str, **more: Any) -> Any:
    """A command line option for a setting, with the setting's meaning as its help."""
    return typer.Option(*names, help=f"{_MEANINGS[key]} ({key})", **more)


Source = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        help=f"A YAML file, or the name of a shipped experiment: {', '.join(shipped_experiments())}",
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the results  [default: runs/NAME]")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.SUB=VALUE", help="Change a setting; can be repeated"),
]


class _ToConsole(logging.Handler):
    """Print each message that the package logs on a line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, wrapped at the width of the terminal."""
        console.print(self.format(record))


_TO_CONSOLE = _ToConsole()


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"crosspatch {crosspatch.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit")
    ] = False,
) -> None:
    """Find out where in a network, and at which tokens, a fine-tune acts."""
    logger = logging.getLogger("crosspatch")
    logger.setLevel(logging.INFO)
    if _TO_CONSOLE not in logger.handlers:
        logger.addHandler(_TO_CONSOLE)


def run_source(source: str, out: Path | None, override: Sequence[str] | None, *stages: str) -> RunDirectory:
    """Run stages of the experiment that a command names; all stages if none is given."""
    return run_stages(load_experiment(source, override or ()), out or default_out(source), *stages)


def run_stages(experiment: Experiment, out: Path, *stages: str) -> RunDirectory:
    """Run stages of an experiment (all if none is named), and return its run directory.

    If several processes were started together, the first runs the stages; the others only take part in training.
    """
    from crosspatch.experiment.stages import run_experiment
    from crosspatch.training import processes

    if processes.count() == 1:
        return run_experiment(experiment, out, *stages)
    from crosspatch.models.placement import pick_device

    processes.shared(experiment.teaching if "teach" in stages else experiment.finetune)
    cpu = pick_device(experiment.models.device) == "cpu"
    if not processes.leads():
        logging.getLogger("crosspatch").setLevel(logging.WARNING)  # the leading process logs the progress
        processes.train_along(cpu=cpu)
        sys.exit()
    directory = run_experiment(experiment, out, *stages)
    processes.announce(None, cpu=cpu)
    return directory


def default_out(source: str) -> Path:
    """The folder of an experiment's results without --out."""
    return Path("runs") / Path(source).stem


def check_output(path: Path | None) -> None:
    """Raise UsageError if a file cannot be written."""
    if path is not None and (not path.parent.is_dir() or path.is_dir()):
        raise UsageError(f"cannot write {path}: expected the name of a file in an existing folder")


def print_rows(title: str, rows: Sequence[dict[str, str]]) -> None:
    """A table with a column for each key, in order of first appearance; prints nothing without rows."""
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(row.get(column, "") for column in columns))
    console.print(table)


def duration(seconds: float | None) -> str:
    """A time in days, hours, minutes or seconds; empty for None."""
    if seconds is None:
        return ""
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {name}"
    return f"{seconds:.2g} s"
