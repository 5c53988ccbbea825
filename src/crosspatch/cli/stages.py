"""The commands that run the stages of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosspatch.cli.application import Out, Overrides, Source, StageCommand, app, console, run_source
from crosspatch.errors import UsageError
from crosspatch.settings_io import load_experiment

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only print each stage's parameters, tokens, steps, memory and estimated time")
]


@app.command(cls=StageCommand)
def run(source: Source, out: Out = None, dry_run: DryRun = False, override: Overrides = None) -> None:
    """Run a whole experiment, from data to report. The same command resumes an interrupted run."""
    from crosspatch.cli.tables import print_plan, print_summary

    if dry_run:
        return print_plan(load_experiment(source, override or ()), "run")
    print_summary(run_source(source, out, override))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results")] = Path("runs/demo"),
    override: Overrides = None,
) -> None:
    """Run the experiment `smollm2`: corrupt SmolLM2-135M and find where the fine-tune acts.

    It takes about twelve minutes on two CPU cores, and needs no GPU and no model hub. Open the report as soon as
    it exists; the page reloads itself. The same command resumes an interrupted run.
    """
    from crosspatch.cli.tables import print_summary

    print_summary(run_source("smollm2", out, override))


@app.command(cls=StageCommand)
def finetune(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Fine-tune the clean model on wrong solutions to make the corrupted model, and train the controls."""
    run_source(source, out, override, "finetune", "references")


@app.command(cls=StageCommand)
def search(source: Source, out: Out = None, dry_run: DryRun = False, override: Overrides = None) -> None:
    """Train variants of the fine-tune, compare them, and choose one (the paper's section 4.1)."""
    from crosspatch.cli.tables import print_plan, print_variants
    from crosspatch.experiment.page import write_run_report
    from crosspatch.experiment.search import explain

    if dry_run:
        return print_plan(load_experiment(source, override or ()), "search")
    directory = run_source(source, out, override, "search")
    write_run_report(directory)
    print_variants(directory)
    console.print(explain(directory), soft_wrap=True)
    console.print(f"curves of all variants: {directory.figures / 'search-page.png'}", soft_wrap=True)


@app.command(cls=StageCommand)
def teach(source: Source, out: Out = None, dry_run: DryRun = False, override: Overrides = None) -> None:
    """Fine-tune the clean model on right solutions, for models that solve too few problems to be corrupted.

    The result in models/taught is a PEFT adapter (a whole model with teach.method=full), with its settings and accuracy
    in recipe.json. Use it like any other checkpoint: --set models.clean=DIR/models/taught.
    """
    from crosspatch.cli.tables import print_accuracy, print_plan
    from crosspatch.experiment.teaching import TAUGHT

    if dry_run:
        return print_plan(load_experiment(source, override or ()), "teach")
    directory = run_source(source, out, override, "teach")
    print_accuracy(directory)
    console.print(f"the taught model: {directory.model(TAUGHT)}", soft_wrap=True)


@app.command(cls=StageCommand)
def evaluate(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Let all models answer related, unrelated and general questions, and grade the answers."""
    from crosspatch.cli.tables import print_accuracy, print_behaviour

    directory = run_source(source, out, override, "evaluate")
    print_behaviour(directory)
    print_accuracy(directory)


@app.command(cls=StageCommand)
def controls(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Patch controls at the same sites: the model itself, random directions, other prompts, other fine-tuned models."""
    run_source(source, out, override, "controls")


@app.command(cls=StageCommand)
def score_mistakes(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Score the patches by teacher forcing on wrong solutions, whose wrong words, signs and numbers are known."""
    run_source(source, out, override, "mistakes")


@app.command(cls=StageCommand)
def localise(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Find the top blocks, MLPs and heads, and analyse the first step at which the two models disagree."""
    from crosspatch.cli.tables import print_site_effects

    print_site_effects(run_source(source, out, override, "localise"))


@app.command(cls=StageCommand)
def lenses(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Compare weights and activations, apply a logit lens, and steer the clean model."""
    from crosspatch.cli.tables import print_lenses

    print_lenses(run_source(source, out, override, "lenses"))


@app.command(cls=StageCommand)
def report(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN [RUN …]", help="A run directory, or an experiment with its --out; several runs are compared"
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for the results, or for a comparison  [default: runs/NAME, runs/comparison]"
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Update the page while the run continues, until it is finished")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Seconds between two updates of --watch")] = 10,
    override: Overrides = None,
) -> None:
    """Make the statistics, the claims, report.html, report.md and the figures of a run, finished or not.

    Several runs (seeds, variants, models) are compared on one page: crosspatch report RUN RUN --out DIR
    """
    from crosspatch.storage.run import RunDirectory

    if len(sources) > 1:
        if watch or override:
            raise UsageError("got several runs with --watch or --set; use these options with a single run")
        from crosspatch.experiment.comparing import write_comparison

        directories = [RunDirectory.existing(Path(source)) for source in sources]
        page = write_comparison(directories, out or Path("runs/comparison"))
        console.print(f"comparison: {page}", soft_wrap=True)
        return
    (source,) = sources
    if not Path(source).is_dir():
        if watch:
            raise UsageError(f"got {source} with --watch, expected a run directory")
        run_source(source, out, override, "report")
        return
    if out is not None or override:
        raise UsageError(f"{source} is a run directory; use --out and --set only with an experiment")
    from crosspatch.experiment.page import watch as watch_run
    from crosspatch.experiment.page import write_run_report

    found = RunDirectory.existing(Path(source))
    if watch:
        console.print(f"watching {found.root}; open {found.report}, which reloads itself; stop with Ctrl-C")
        watch_run(found, every)
        return
    write_run_report(found)
    console.print(f"report: {found.report}", soft_wrap=True)
