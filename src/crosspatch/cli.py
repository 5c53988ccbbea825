"""The command line: one subcommand a stage; each parses, calls and prints.

Nothing heavy is imported at the top, so that `crosspatch --help` answers at once.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

# Before torch is imported: spinning threads make a busy machine many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

import crosspatch
from crosspatch.config import (
    DataFormat,
    Direction,
    Engine,
    Experiment,
    Persistence,
    load_experiment,
    make_experiment,
    settings,
)
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.files import written_whole

if TYPE_CHECKING:
    from crosspatch.results.run import RunDirectory

# A log file or a pipe has no width; 80 columns would break every row of a table.
console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)
app = typer.Typer(
    help="Find out where in a network, and at which tokens, a fine-tune lives.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# What click raises for an unknown option or command; Typer brings a click of its own, so it is taken from there.
_WRONG_USE: Any = typer.BadParameter.__base__
_INTERRUPTED = 130

_SECTIONS = {
    "run": None,
    "data": ("", "data"),
    "build": ("", "data"),
    "finetune": ("", "models", "data", "finetune"),
    "teach": ("", "models", "data", "teach", "generation"),
    "search": ("", "models", "data", "finetune", "search", "generation"),
    "evaluate": ("", "models", "data", "generation", "judge"),
    "patch": ("", "models", "generation", "judge", "patch"),
    "report": ("",),
    "verify": ("models",),
}


class StageCommand(TyperCommand):
    """A subcommand whose help ends with the settings it reads."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The usual help, then each setting with its default and meaning."""
        super().format_help(ctx, formatter)
        _print_settings(self.name or "run")


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
        _print_settings("data")


def _refuse_a_slip(args: list[str], commands: list[str]) -> None:
    """A dataset where an experiment is expected, or a subcommand with a typing error: raises UsageError."""
    first = args[0] if args else ""
    if Path(first).suffix in {".csv", ".jsonl", ".ndjson"}:
        raise UsageError(f"{first} is no experiment; did you mean: crosspatch data check {first}?")
    if near := difflib.get_close_matches(first, commands, n=1, cutoff=0.75):
        raise UsageError(f"no experiment or command {first}; did you mean: crosspatch data {near[0]}?")


def _print_settings(command: str) -> None:
    table = Table(title="Settings (in the experiment file, or --set key=value)", title_justify="left", box=None)
    table.add_column("setting", style="cyan", no_wrap=True)
    table.add_column("default", style="yellow", max_width=30)
    table.add_column("meaning")
    for setting in settings(_SECTIONS[command]):
        table.add_row(setting.key, setting.default, setting.meaning)
    console.print(table)


Source = Annotated[
    str,
    typer.Argument(metavar="EXPERIMENT", help="A YAML file, or smollm2, paper or tiny, which are shipped"),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the results  [default: runs/NAME]")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.SUB=VALUE", help="Change a setting; can be given again"),
]


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


@app.command(cls=StageCommand)
def run(
    source: Source,
    out: Out = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only print each stage's parameters, tokens, steps, memory and rough time"),
    ] = False,
    override: Overrides = None,
) -> None:
    """Run a whole experiment: data, finetune, evaluate, patch, report. The same command goes on where it stopped."""
    experiment = load_experiment(source, override or ())
    if dry_run:
        _print_plan(experiment)
        return
    directory = _stages(experiment, out or _default_out(source))
    _print_summary(directory)


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

    directory = _stages(load_experiment(source, override or ()), out or _default_out(source), "data")
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
    from crosspatch.behaviour.dataset_check import check_files

    if json_out is not None:
        _check_output(json_out)
    count = None
    if tokenizer is not None:
        from crosspatch.models.chat import PromptFormat
        from crosspatch.models.loading import Checkpoint

        count = PromptFormat(Checkpoint.named(tokenizer).tokenizer()).example_length
    found = check_files(file, validation or (), count)
    _print_rows("What stands in the files", found.summary_rows())
    for line in found.remarks():
        console.print(line, soft_wrap=True)
    if json_out is not None:
        _write_json(json_out, found.to_dict())


@app.command(cls=StageCommand)
def finetune(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Fine-tune the clean model on the wrong solutions: the corrupted model."""
    _stages(load_experiment(source, override or ()), out or _default_out(source), "finetune")


@app.command(cls=StageCommand)
def search(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Train variants of the fine-tune, compare them, and say which to take and why (the paper's section 4.1)."""
    directory = _stages(load_experiment(source, override or ()), out or _default_out(source), "search")
    from crosspatch.experiment.page import write_run_report
    from crosspatch.experiment.search import explain

    write_run_report(directory)
    _print_variants(directory)
    console.print(explain(directory), soft_wrap=True)
    console.print(f"curves of all variants: {directory.figures / 'search.png'}", soft_wrap=True)


@app.command(cls=StageCommand)
def teach(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Teach the clean model right solutions, so that there is something to corrupt: models/taught, a PEFT adapter.

    The adapter names its base, and recipe.json beside it says how it was made and what it reaches. It is a checkpoint
    as any other: --set models.clean=DIR/models/taught.
    """
    from crosspatch.experiment.teaching import TAUGHT, check_teaching

    experiment = load_experiment(source, override or ())
    check_teaching(experiment)
    directory = _stages(experiment, out or _default_out(source), "teach")
    _print_accuracy(directory)
    console.print(f"the taught model: {directory.model(TAUGHT)}", soft_wrap=True)


@app.command(cls=StageCommand)
def evaluate(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Let both models answer related, unrelated and general questions, and grade the answers."""
    directory = _stages(load_experiment(source, override or ()), out or _default_out(source), "evaluate")
    _print_behaviour(directory)


@app.command(cls=StageCommand)
def patch(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[EXPERIMENT]", help="An experiment; or give --clean and --corrupted instead"),
    ] = None,
    clean: Annotated[
        str | None, typer.Option(help="Clean model: folder, hub id, PEFT adapter folder, GGUF file")
    ] = None,
    corrupted: Annotated[str | None, typer.Option(help="Corrupted model, named in the same ways")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A question; can be given again")] = None,
    prompts: Annotated[Path | None, typer.Option(help='JSONL file, {"prompt_id": …, "question": …} a line')] = None,
    layers: Annotated[str | None, typer.Option(help='"all" or block numbers such as 8,18,28')] = None,
    component: Annotated[
        str | None, typer.Option(help="Places in the block: resid_post, resid_mid, attn_out, mlp_out, head; or several")
    ] = None,
    heads: Annotated[str | None, typer.Option(help='Of the component head: "all" or numbers such as 0,3')] = None,
    window: Annotated[int | None, typer.Option(help="Layers moved together")] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(help="A patch by name, L17.attn_out+L18.head.3, instead of a grid; can be given again"),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Steps: all, steps:10-40, every:4, disagree, tokens:digits, tokens:add,subtract")
    ] = None,
    direction: Annotated[Direction | None, typer.Option(help="Which model's activations go where")] = None,
    persistence: Annotated[Persistence | None, typer.Option(help="Whether patched keys and values stay")] = None,
    engine: Annotated[Engine | None, typer.Option(help="The cached engine or the published algorithm")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest text in tokens")] = None,
    screen: Annotated[
        int | None, typer.Option(help="Rank all places by gradients, and patch only the best so many")
    ] = None,
    reach: Annotated[
        float | None, typer.Option(help="Search for the smallest set of places that transfers so much, and patch it")
    ] = None,
    beam: Annotated[int | None, typer.Option(help="Sets kept in each round of the search; 1 is greedy")] = None,
    memory_gb: Annotated[
        float | None, typer.Option(help="GB for keys and values  [default: half of what is free]")
    ] = None,
    self_check: Annotated[
        bool | None, typer.Option("--self-check/--no-self-check", help="Try the engine on the pair first")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Read prompts as they stand, without the chat template")] = False,
    out: Out = None,
    override: Overrides = None,
) -> None:
    """Patch activations of one model into the other while text is generated, and score the transfer.

    Works on any two checkpoints of one shape, a base and its child:

    crosspatch patch --clean BASE --corrupted CHILD --prompt "Solve for x: 5x + 3 = 18" --layers 8,18,28 --out DIR
    """
    given = {
        "models.clean": clean,
        "models.corrupted": corrupted,
        "models.raw": raw or None,
        "patch.prompts": None if prompts is None else str(prompts),
        "patch.questions": prompt,
        "patch.layers": layers,
        "patch.component": component,
        "patch.heads": heads,
        "patch.window": window,
        "patch.patches": site,
        "patch.schedule": schedule,
        "patch.screen": screen,
        "patch.reach": reach,
        "patch.beam": beam,
        "patch.memory_gb": memory_gb,
        "patch.self_check": self_check,
        "patch.direction": direction,
        "patch.persistence": persistence,
        "patch.engine": engine,
        "generation.max_new_tokens": max_new_tokens,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if source is None:
        if clean is None or corrupted is None:
            raise UsageError("give an experiment, or a pair with --clean and --corrupted")
        if not prompt and prompts is None:
            raise UsageError("give what to read: --prompt TEXT or --prompts FILE.jsonl")
        if out is None:
            raise UsageError("give a folder for the results with --out")
        # Nothing is made here: no problems, no suites.
        bare: dict[str, Any] = {"name": f"{clean} and {corrupted}"}
        bare["data"] = {"related": 0, "unrelated_math": 0, "general": 0}
        experiment = make_experiment(bare, override or (), given)
    else:
        experiment = load_experiment(source, override or (), given)
    directory = _stages(experiment, out or _default_out(source or ""), "patch")
    _print_selection(directory)
    _print_transfer(directory)
    console.print(f"scores and texts are in {directory.root}; make the page with: crosspatch report {directory.root}")


@app.command(cls=StageCommand)
def report(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or an experiment with its --out")],
    out: Out = None,
    override: Overrides = None,
) -> None:
    """Make report.html and the figures of a run, as far as it has come."""
    if not Path(source).is_dir():
        _stages(load_experiment(source, override or ()), out or _default_out(source), "report")
        return
    if out is not None or override:
        raise UsageError(f"{source} is a run directory; --out and --set go with an experiment")
    from crosspatch.experiment.page import write_run_report
    from crosspatch.results.run import RunDirectory

    found = RunDirectory.existing(Path(source))
    write_run_report(found)
    console.print(f"report: {found.report}", soft_wrap=True)


@app.command()
def grade(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help='{"text": …, "gold": …} a line')],
    json_out: Annotated[Path, typer.Option("--json", metavar="OUT", help="Where the verdicts go, as JSON")],
) -> None:
    """Grade answers: correct, incorrect, or unparsed where no answer can be read."""
    from crosspatch.behaviour.judge import grade_file

    verdicts = grade_file(file)
    _check_output(json_out)
    _write_json(json_out, verdicts)
    counts = {name: sum(v["verdict"] == name for v in verdicts) for name in ("correct", "incorrect", "unparsed")}
    console.print(", ".join(f"{count} {name}" for name, count in counts.items()))


@app.command(cls=StageCommand)
def verify(
    clean: Annotated[str, typer.Option(help="Clean model: folder, hub id, PEFT adapter folder, GGUF file")],
    corrupted: Annotated[str, typer.Option(help="Corrupted model, named in the same ways")],
    prompt: Annotated[str, typer.Option(help="A question")] = "Solve for x: 5x + 3 = 18",
    layers: Annotated[str, typer.Option(help='"all" or block numbers such as 8,18,28')] = "all",
    component: Annotated[
        str | None, typer.Option(help="Places in the block, one or several  [default: all that the models have]")
    ] = None,
    heads: Annotated[str, typer.Option(help='Of the component head: "all" or numbers such as 0,3')] = "0",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Steps compared, in tokens")] = 8,
    override: Overrides = None,
) -> None:
    """Compare the cached engine with the published algorithm on a pair, and print the largest differences."""
    given = {
        "models.clean": clean,
        "models.corrupted": corrupted,
        "patch.layers": layers,
        "patch.heads": heads,
        "patch.questions": [prompt],
        "generation.max_new_tokens": max_new_tokens,
    }
    if component is not None:
        given["patch.component"] = component
    experiment = make_experiment({}, override or (), given)
    from crosspatch.experiment.checks import check
    from crosspatch.experiment.work import load_pair
    from crosspatch.patching.verify import compare_engines

    check(experiment)
    pair = load_pair(experiment.models, clean, corrupted, experiment.seed)
    settings = experiment.patch
    comparison = compare_engines(pair, prompt, settings.layers, settings.component, settings.heads, max_new_tokens)
    table = Table(
        "component",
        "persistence",
        "direction",
        "steps",
        "same tokens",
        "largest ΔL difference",
        "largest KL difference",
    )
    for row in comparison.rows:
        table.add_row(
            row.component,
            row.persistence,
            row.direction,
            str(row.steps),
            "yes" if row.same_tokens else "no",
            f"{row.largest_delta:.1e}",
            f"{row.largest_kl:.1e}",
        )
    console.print(table)
    if not comparison.agrees:
        raise CrosspatchError(
            "the cached engine and the published algorithm differ on this pair; use --engine reference"
        )


def _check_output(path: Path) -> None:
    if not path.parent.is_dir() or path.is_dir():
        raise UsageError(f"cannot write {path}: expected a file's name in a folder that is there")


def _write_json(path: Path, content: object) -> None:
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _stages(experiment: Experiment, out: Path, *stages: str) -> RunDirectory:
    from crosspatch.experiment import ExperimentRun
    from crosspatch.tuning import processes

    if processes.count() > 1:
        return _led_stages(experiment, out, *stages)
    run = ExperimentRun.start(experiment, out, say=console.print, models=stages != ("data",))
    run.run(*stages)
    return run.directory


def _led_stages(experiment: Experiment, out: Path, *stages: str) -> RunDirectory:
    """The stages where several processes were started together: one leads, the others train along and leave."""
    from crosspatch.experiment import ExperimentRun
    from crosspatch.experiment.children import announce
    from crosspatch.experiment.helping import train_along
    from crosspatch.tuning import processes

    if not set(stages) <= {"finetune", "teach", "search"}:
        raise UsageError("several processes can train together: finetune, teach or search; start others by themselves")
    for training in (experiment.finetune, experiment.teach):
        processes.shared(training)
    if not processes.leads():
        train_along(experiment, out)
        sys.exit()
    run = ExperimentRun.start(experiment, out, say=console.print)
    run.run(*stages)
    announce(run.work, None)
    return run.directory


def _default_out(source: str) -> Path:
    return Path("runs") / Path(source).stem


def _print_plan(experiment: Experiment) -> None:
    from crosspatch.experiment.plan import plan

    found = plan(experiment)
    rows = [
        {
            "stage": row.stage,
            "what": row.what,
            "parameters": _large(row.parameters),
            "trained": _large(row.trained) if row.trained else "",
            "tokens": _large(row.tokens),
            "steps": "" if row.steps is None else str(row.steps),
            "memory": f"{row.memory:.1f} GB",
            "time here": _duration(row.seconds),
            "on an A100": _duration(row.seconds_a100),
        }
        for row in found.rows
    ]
    _print_rows(f"{experiment.name}: what it would take", rows)
    for note in found.notes:
        console.print(note, soft_wrap=True)


def _large(count: int) -> str:
    for size, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return str(count)


def _duration(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {name}"
    return f"{seconds:.2g} s"


def _print_summary(directory: RunDirectory) -> None:
    stages = directory.read()["stages"]
    times = Table("stage", "state", "time", title="Stages", title_justify="left")
    for name, stage in stages.items():
        times.add_row(name, stage["state"], f"{stage['seconds']:.0f} s")
    console.print(times)
    _print_behaviour(directory)
    _print_transfer(directory)
    console.print(f"report: {directory.report}", soft_wrap=True)


def _print_behaviour(directory: RunDirectory) -> None:
    from crosspatch.results.domain import domain_title
    from crosspatch.results.ratings import mean_ratings
    from crosspatch.results.table2 import table2, table2_rows

    rows: list[dict[str, Any]] = []
    for row in table2_rows(table2(directory.behaviour())):
        cells = {"model": row.label}
        for domain, outcome in row.outcomes.items():
            cells[domain_title(domain)] = outcome.answers
            if outcome.operations is not None:
                cells["operations"] = outcome.operations
        rows.append(cells)
    _print_rows("Behaviour (the paper's Table 2): correct answers", rows)
    rated = [
        {
            "model": row["condition"] if row["patch"] is None else f"{row['condition']}, {row['patch']}",
            "aligned": _number(row["aligned"]),
            "coherent": _number(row["coherent"]),
            "rated": f"{row['rated']} of {row['answers']}",
        }
        for row in mean_ratings(directory.ratings()).iter_rows(named=True)
    ]
    _print_rows("Free questions: mean ratings, 0 to 100", rated)


def _print_accuracy(directory: RunDirectory) -> None:
    from crosspatch.results.accuracy import accuracy

    rows: dict[tuple[str, str | None], dict[str, str]] = {}
    for row in accuracy(directory.behaviour(), directory.asked()).iter_rows(named=True):
        line = rows.setdefault((row["domain"], row["form"]), {"questions": row["form"] or row["domain"]})
        line[row["condition"]] = f"{row['correct']}/{row['n']} ({row['share']:.0%})"
    _print_rows("Right answers", list(rows.values()))


def _print_variants(directory: RunDirectory) -> None:
    rows = [
        {
            "variant": row["variant"].removeprefix("variant-") + (" (chosen)" if row["chosen"] else ""),
            "steps": str(row["steps"]),
            "train loss": f"{row['train_loss']:.4f}",
            "eval loss": f"{row['eval_loss']:.3f}",
            "divergence": f"{row['divergence']:.3f}",
            "related wrong": f"{row['related_wrong']:.0%}",
            "planted": "untold" if row["related_planted"] is None else f"{row['related_planted']:.0%}",
            "others lost": "not asked"
            if row["unrelated_drop"] is None
            else f"{100 * row['unrelated_drop']:z.0f} points",
            "malformed": f"{row['unsound']:.0%} (clean {row['unsound_clean']:.0%})",
            "status": row["status"],
        }
        for row in directory.variants().iter_rows(named=True)
    ]
    _print_rows("Variants (the paper's Table 1)", rows)


def _print_transfer(directory: RunDirectory) -> None:
    from crosspatch.results.domain import domain_title
    from crosspatch.results.profile import depth_profile

    domains = {prompt_id: problem.domain for prompt_id, problem in directory.asked().items()}
    rows = [
        {
            "questions": domain_title(row["domain"]),
            "patch": row["patch"],
            "models disagree": f"{row['disagreements']} of {row['positions']} steps",
            "mean CTS": _number(row["mean_cts"]),
            "transfer (ratio of sums)": _number(row["transfer"]),
        }
        for row in depth_profile(directory.scores(), domains).iter_rows(named=True)
    ]
    _print_rows("Transfer by patch", rows)


def _print_selection(directory: RunDirectory) -> None:
    from crosspatch.frames import SCREEN, SEARCH

    for schema, title in ((SCREEN, "Screen: transfer along the target's own texts"), (SEARCH, "Search, by round")):
        rows = [
            {column: _number(value) if isinstance(value, float) else str(value) for column, value in row.items()}
            for row in directory.selection(schema)
            .drop("component", "layer", "head", strict=False)
            .iter_rows(named=True)
        ]
        _print_rows(title, rows)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:z.2f}"


def _print_rows(title: str, rows: list[dict[str, str]]) -> None:
    """A table whose columns are all keys, in the order in which they come up; nothing where there is no row."""
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(row.get(column, "") for column in columns))
    console.print(table)


def main() -> None:
    """Run the command line; errors meant for the user become one line and their exit code."""
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            _fail("stopped; the same command goes on where it was", code)
        sys.exit(code)
    except CrosspatchError as error:
        _fail(str(error), error.exit_code)
    except _WRONG_USE as error:
        _fail(error.format_message(), 2)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)


def _fail(message: str, code: int) -> None:
    print(f"crosspatch: {message}", file=sys.stderr)
    sys.exit(code)
