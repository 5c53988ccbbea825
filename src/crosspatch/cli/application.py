"""The application, what its commands have in common, and running the stages that a command stands for."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

import crosspatch
from crosspatch.config import Experiment
from crosspatch.errors import UsageError
from crosspatch.files import written_whole
from crosspatch.settings_io import settings, shipped_experiments

if TYPE_CHECKING:
    from crosspatch.storage.run import RunDirectory

# A log file or a pipe has no width; 80 columns would break every row of a table.
console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)

_SECTIONS = {
    "run": None,
    "data": ("", "data"),
    "build": ("", "data"),
    "finetune": ("", "models", "data", "finetune"),
    "teach": ("", "models", "data", "finetune", "teach", "generation", "judge"),
    "search": ("", "models", "data", "finetune", "search", "generation", "judge"),
    "evaluate": ("", "models", "data", "generation", "judge"),
    "patch": ("", "models", "generation", "judge", "patch", "execution"),
    "controls": ("", "models", "generation", "patch", "execution"),
    "score-mistakes": ("", "models", "generation", "patch", "execution"),
    "localise": ("", "models", "generation", "patch", "localise"),
    "lenses": ("", "models", "generation", "judge", "patch", "lenses"),
    "report": ("",),
    "verify": ("models",),
}

_ORDER = (
    *(
        "run",
        "data",
        "finetune",
        "search",
        "teach",
        "evaluate",
        "patch",
        "controls",
        "score-mistakes",
        "localise",
        "lenses",
        "report",
    ),
    *("status", "export", "grade", "verify"),
)


# Names that commands and options had before version 0.2.
_RENAMED = {
    "spans": "score-mistakes",
    "--screen": "--attribution",
    "--reach": "--target-fraction",
    "--site": "--patch",
    "--self-check": "--quick-check",
    "--no-self-check": "--no-quick-check",
}


class Commands(TyperGroup):
    """The commands in the order of an experiment's stages, wherever they are defined."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Accept the old names of commands, which `--help` does not list."""
        return super().get_command(ctx, _RENAMED.get(cmd_name, cmd_name))

    def list_commands(self, ctx: Any) -> list[str]:
        """The names as `--help` shows them."""
        return sorted(self.commands, key=_ORDER.index)


app = typer.Typer(
    cls=Commands,
    help="Find out where in a network, and at which tokens, a fine-tune lives.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class StageCommand(TyperCommand):
    """A subcommand whose help ends with the settings it reads."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept the old names of options, which `--help` does not list."""
        parts = (arg.partition("=") for arg in args)
        return super().parse_args(ctx, ["".join((_RENAMED.get(name, name), *rest)) for name, *rest in parts])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The usual help, then each setting with its default and meaning."""
        super().format_help(ctx, formatter)
        print_settings(self.name or "run")


def print_settings(command: str) -> None:
    """The settings that a command reads, each with its default and meaning."""
    table = Table(title="Settings (in the experiment file, or --set key=value)", title_justify="left", box=None)
    table.add_column("setting", style="cyan", no_wrap=True)
    table.add_column("default", style="yellow", max_width=30)
    table.add_column("meaning")
    for setting in settings(_SECTIONS[command]):
        table.add_row(setting.key, setting.default, setting.meaning)
    console.print(table)


Source = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT", help=f"A YAML file, or one of those that are shipped: {', '.join(shipped_experiments())}"
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the results  [default: runs/NAME]")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.SUB=VALUE", help="Change a setting; can be given again"),
]


class _ToConsole(logging.Handler):
    """What the package logs, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, wrapped as everything else."""
        console.print(self.format(record))


_TO_CONSOLE = _ToConsole()


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"crosspatch {crosspatch.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave")
    ] = False,
) -> None:
    """Find out where in a network, and at which tokens, a fine-tune lives."""
    logger = logging.getLogger("crosspatch")
    logger.setLevel(logging.INFO)
    if _TO_CONSOLE not in logger.handlers:
        logger.addHandler(_TO_CONSOLE)


def run_stages(experiment: Experiment, out: Path, *stages: str) -> RunDirectory:
    """Run stages of an experiment, all where none is named, and return its run directory.

    Where several processes were started together, the first one does it; the others train along and exit.
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


def run_slice(experiment: Experiment, out: Path, slice_: str) -> RunDirectory:
    """Do a slice of an experiment's sweep, "2/8", beside other processes that do the others; its run directory."""
    from crosspatch.experiment import ExperimentRun

    number, slash, of = slice_.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UsageError(f"--shard got {slice_!r}, expected i/n with i from 1 to n, such as 2/8")
    run = ExperimentRun.start(experiment, out, ("patch",))
    run.run_slice(int(number), int(of))
    return run.directory


def default_out(source: str) -> Path:
    """Where an experiment's results go when nothing is said."""
    return Path("runs") / Path(source).stem


def check_output(path: Path) -> None:
    """Refuse a file that could not be written: raises UsageError."""
    if not path.parent.is_dir() or path.is_dir():
        raise UsageError(f"cannot write {path}: expected a file's name in a folder that is there")


def write_json(path: Path, content: object) -> None:
    """Write a JSON file that is there as a whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
