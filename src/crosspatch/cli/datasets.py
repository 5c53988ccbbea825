"""`crosspatch data build`, `crosspatch data check` and `crosspatch grade`: make problems, check and grade files."""

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
    print_rows,
    print_settings,
    run_source,
)
from crosspatch.errors import UsageError
from crosspatch.files import write_json


class DataGroup(TyperGroup):
    """`crosspatch data build` and `check`; `crosspatch data EXPERIMENT` is `build`, as for any other stage."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `build` where neither subcommand is given."""
        if not args or args[0] not in {*self.commands, "--help"}:
            _refuse_a_slip(args, list(self.commands))
            args = ["build", *args]
        return list(super().parse_args(ctx, args))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The usual help, then each setting with its default and meaning."""
        super().format_help(ctx, formatter)
        print_settings("data")


def _refuse_a_slip(args: list[str], commands: list[str]) -> None:
    """Raise UsageError if a dataset is given instead of an experiment, or a subcommand is misspelt."""
    first = args[0] if args else ""
    if Path(first).suffix in {".csv", ".jsonl", ".ndjson"}:
        raise UsageError(f"{first} is not an experiment; did you mean: crosspatch data check {first}?")
    if near := difflib.get_close_matches(first, commands, n=1, cutoff=0.75):
        raise UsageError(f"no experiment or command {first}; did you mean: crosspatch data {near[0]}?")


data_app = typer.Typer(cls=DataGroup)
app.add_typer(
    data_app,
    name="data",
    help="Generate problems, right and wrong solutions, and suites (`data EXPERIMENT` or `data build EXPERIMENT`), "
    "or check a file of solutions (`data check FILE`).",
)


@data_app.command("build", cls=StageCommand)
def data_build(
    source: Source,
    out: Out = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Also write CSV files, without the steps")] = False,
    as_datasets: Annotated[
        bool, typer.Option("--datasets", help="Also write Hugging Face datasets, for `load_from_disk`")
    ] = False,
    override: Overrides = None,
) -> None:
    """Generate an experiment's problems, right and wrong solutions, and suites as data/*.jsonl in its run directory."""
    from crosspatch.experiment.problems import export_data

    directory = run_source(source, out, override, "data")
    if as_csv:
        console.print(f"data: as csv in {export_data(directory, 'csv')}", soft_wrap=True)
    if as_datasets:
        console.print(f"data: as datasets in {export_data(directory, 'datasets')}", soft_wrap=True)


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
        typer.Option(help="Another file to check, which must share no question with FILE; can be repeated"),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count tokens with the tokenizer of this model: a folder or a hub id")
    ] = None,
    json_out: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write the findings as JSON")] = None,
) -> None:
    """Check a file of solutions: right and wrong final answers, steps that do not follow, repeated questions."""
    from crosspatch.grading.dataset_check import check_files

    check_output(json_out)
    count = None
    if tokenizer is not None:
        from crosspatch.models.chat import PromptFormat
        from crosspatch.models.loading import Checkpoint

        count = PromptFormat(Checkpoint.named(tokenizer).tokenizer()).example_length
    found = check_files(file, validation or (), count)
    print_rows("Contents of the files", found.summary_rows())
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
            help='JSON lines {"text": …, "gold": …}, with "aliases": […] for other right answers; '
            '"key_points": [[…], …] instead of "gold" for an explanation',
        ),
    ],
    json_out: Annotated[Path, typer.Option("--json", metavar="OUT", help="File for the verdicts, as JSON")],
    seconds: Annotated[float, typer.Option(help="Seconds for one answer; a slower answer is unparsed")] = 5.0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print what was extracted from each answer, and the rule that decided")
    ] = False,
) -> None:
    """Grade answers: correct, incorrect, or unparsed if no answer is found."""
    from crosspatch.grading.judge import grade_file

    verdicts = grade_file(file, seconds)
    check_output(json_out)
    write_json(json_out, verdicts)
    for number, verdict in enumerate(verdicts if explain else [], start=1):
        extracted = "" if verdict["extracted"] is None else f", from {verdict['extracted']!r}"
        console.print(
            f"answer {number}: {verdict['verdict']} ({verdict['rule']}){extracted}", markup=False, soft_wrap=True
        )
    counts = {name: sum(v["verdict"] == name for v in verdicts) for name in ("correct", "incorrect", "unparsed")}
    console.print(", ".join(f"{count} {name}" for name, count in counts.items()))
