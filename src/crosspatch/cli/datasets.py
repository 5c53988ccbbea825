"""`crosspatch data`: problems made, and files of solutions checked; and `grade`, for files of answers."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from crosspatch.cli.application import (
    Out,
    Overrides,
    Source,
    StageCommand,
    app,
    check_output,
    console,
    default_out,
    print_settings,
    run_stages,
    write_json,
)
from crosspatch.cli.tables import print_rows
from crosspatch.config import DataFormat
from crosspatch.errors import UsageError
from crosspatch.settings_io import load_experiment


class DataGroup(TyperGroup):
    """`crosspatch data build` and `check`; `crosspatch data EXPERIMENT`, as for any other stage, is build."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in `build` where neither subcommand is named."""
        if not args or args[0] not in {*self.commands, "--help"}:
            _refuse_a_slip(args, list(self.commands))
            args = ["build", *args]
        return list(super().parse_args(ctx, args))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The usual help, then each setting with its default and meaning."""
        super().format_help(ctx, formatter)
        print_settings("data")


def _refuse_a_slip(args: list[str], commands: list[str]) -> None:
    """A dataset where an experiment is expected, or a subcommand with a typing error: raises UsageError."""
    first = args[0] if args else ""
    if Path(first).suffix in {".csv", ".jsonl", ".ndjson"}:
        raise UsageError(f"{first} is no experiment; did you mean: crosspatch data check {first}?")
    if near := difflib.get_close_matches(first, commands, n=1, cutoff=0.75):
        raise UsageError(f"no experiment or command {first}; did you mean: crosspatch data {near[0]}?")


data_app = typer.Typer(cls=DataGroup)
app.add_typer(
    data_app,
    name="data",
    help="Make the problems, right and wrong solutions, and suites (`data EXPERIMENT` or `data build EXPERIMENT`); "
    "or check a file of solutions (`data check FILE`).",
)


@data_app.command("build", cls=StageCommand)
def data_build(
    source: Source,
    out: Out = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write them as CSV files too, without their steps")] = False,
    as_datasets: Annotated[
        bool, typer.Option("--datasets", help="Write them as Hugging Face datasets too, for `load_from_disk`")
    ] = False,
    override: Overrides = None,
) -> None:
    """Make the problems, right and wrong solutions, and suites of an experiment: data/*.jsonl in its run directory."""
    from crosspatch.experiment.problems import export_data

    directory = run_stages(load_experiment(source, override or ()), out or default_out(source), "data")
    wanted: dict[DataFormat, bool] = {"csv": as_csv, "datasets": as_datasets}
    for name in (name for name, asked in wanted.items() if asked):
        console.print(f"data: as {name} in {export_data(directory, name)}", soft_wrap=True)


@data_app.command("check")
def data_check(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV or JSONL with columns named question (or prompt, problem, instruction, input), solution (or "
            "response, completion, output), answer (or gold, final_answer, target)",
        ),
    ],
    validation: Annotated[
        list[Path] | None,
        typer.Option(help="A file that must not share questions with FILE, checked as well; can be given again"),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count tokens as this model's tokenizer does: a folder or a hub id")
    ] = None,
    json_out: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="All that was found, as JSON")] = None,
) -> None:
    """Check a file of solutions: which final answers are right, which steps do not follow, what is asked twice."""
    from crosspatch.grading.dataset_check import check_files

    if json_out is not None:
        check_output(json_out)
    count = None
    if tokenizer is not None:
        from crosspatch.models.chat import PromptFormat
        from crosspatch.models.loading import Checkpoint

        count = PromptFormat(Checkpoint.named(tokenizer).tokenizer()).example_length
    found = check_files(file, validation or (), count)
    print_rows("What stands in the files", found.summary_rows())
    for line in found.remarks():
        console.print(line, soft_wrap=True)
    if json_out is not None:
        write_json(json_out, found.to_dict())


@app.command()
def grade(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.jsonl",
            help='{"text": …, "gold": …} a line, with "aliases": […] if there are other right answers; '
            '"key_points": [[…], …] in place of the gold of an explanation',
        ),
    ],
    json_out: Annotated[Path, typer.Option("--json", metavar="OUT", help="Where the verdicts go, as JSON")],
    seconds: Annotated[
        float, typer.Option(help="Time limit for one answer; one that takes longer to read is unparsed")
    ] = 5.0,
) -> None:
    """Grade answers: correct, incorrect, or unparsed where no answer can be read."""
    from crosspatch.grading.judge import grade_file

    verdicts = grade_file(file, seconds)
    check_output(json_out)
    write_json(json_out, verdicts)
    counts = {name: sum(v["verdict"] == name for v in verdicts) for name in ("correct", "incorrect", "unparsed")}
    console.print(", ".join(f"{count} {name}" for name, count in counts.items()))
