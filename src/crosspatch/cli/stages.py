"""The commands that do the stages of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosspatch.cli.application import Out, Overrides, Source, StageCommand, app, console, default_out, run_stages
from crosspatch.cli.tables import print_accuracy, print_behaviour, print_plan, print_summary, print_variants
from crosspatch.errors import UsageError
from crosspatch.settings_io import load_experiment

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only print each stage's parameters, tokens, steps, memory and rough time")
]


@app.command(cls=StageCommand)
def run(source: Source, out: Out = None, dry_run: DryRun = False, override: Overrides = None) -> None:
    """Run a whole experiment, from data to report. The same command goes on where it stopped."""
    experiment = load_experiment(source, override or ())
    if dry_run:
        print_plan(experiment)
        return
    directory = run_stages(experiment, out or default_out(source))
    print_summary(directory)


@app.command(cls=StageCommand)
def finetune(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Fine-tune the clean model on the wrong solutions: the corrupted model, and the controls that are asked for."""
    run_stages(load_experiment(source, override or ()), out or default_out(source), "finetune")


@app.command(cls=StageCommand)
def search(source: Source, out: Out = None, dry_run: DryRun = False, override: Overrides = None) -> None:
    """Train variants of the fine-tune, compare them, and say which to take and why (the paper's section 4.1)."""
    from crosspatch.experiment.page import write_run_report
    from crosspatch.experiment.search import explain

    experiment = load_experiment(source, override or ())
    if dry_run:
        print_plan(experiment, "search")
        return
    directory = run_stages(experiment, out or default_out(source), "search")
    write_run_report(directory)
    print_variants(directory)
    console.print(explain(directory), soft_wrap=True)
    console.print(f"curves of all variants: {directory.figures / 'search-page.png'}", soft_wrap=True)


@app.command(cls=StageCommand)
def teach(source: Source, out: Out = None, dry_run: DryRun = False, override: Overrides = None) -> None:
    """Teach the clean model right solutions, so that there is something to corrupt: models/taught.

    That is a PEFT adapter that names its base (with teach.method=full a whole model); recipe.json beside it says how
    it was made and what it reaches. It is a checkpoint as any other: --set models.clean=DIR/models/taught.
    """
    from crosspatch.experiment.teaching import TAUGHT

    experiment = load_experiment(source, override or ())
    if dry_run:
        print_plan(experiment, "teach")
        return
    directory = run_stages(experiment, out or default_out(source), "teach")
    print_accuracy(directory)
    console.print(f"the taught model: {directory.model(TAUGHT)}", soft_wrap=True)


@app.command(cls=StageCommand)
def evaluate(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Let all models answer related, unrelated and general questions, and grade the answers."""
    directory = run_stages(load_experiment(source, override or ()), out or default_out(source), "evaluate")
    print_behaviour(directory)
    print_accuracy(directory)


@app.command(cls=StageCommand)
def controls(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Move something else to the places of the patches, to compare with: itself, random directions, other children."""
    run_stages(load_experiment(source, override or ()), out or default_out(source), "controls")


@app.command(cls=StageCommand)
def score_mistakes(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Score the patches along wrong solutions, whose wrong words, signs and numbers are known."""
    run_stages(load_experiment(source, override or ()), out or default_out(source), "mistakes")


@app.command(cls=StageCommand)
def localise(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Find the blocks, MLPs and heads that carry the fine-tune, and cut both models where they first part."""
    from crosspatch.cli.analysis_tables import print_site_effects

    print_site_effects(run_stages(load_experiment(source, override or ()), out or default_out(source), "localise"))


@app.command(cls=StageCommand)
def lenses(source: Source, out: Out = None, override: Overrides = None) -> None:
    """Look beside patching: what moved in weights and activations, a logit lens, and steering the clean model."""
    from crosspatch.cli.analysis_tables import print_lenses

    print_lenses(run_stages(load_experiment(source, override or ()), out or default_out(source), "lenses"))


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
            "--out", help="Folder of an experiment's results, or of a comparison  [default: runs/NAME, runs/comparison]"
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Make the page anew while the run goes on, until it is finished")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Seconds between two looks of --watch")] = 10,
    override: Overrides = None,
) -> None:
    """Make the statistics, the claims, report.html, report.md and the figures of a run, as far as it has come.

    Of several runs (seeds, variants, models) one page that compares them: crosspatch report RUN RUN --out DIR
    """
    from crosspatch.storage.run import RunDirectory

    if len(sources) > 1:
        if watch or override:
            raise UsageError("--watch and --set go with one run; several are compared as they are")
        from crosspatch.experiment.comparing import write_comparison

        directories = [RunDirectory.existing(Path(source)) for source in sources]
        page = write_comparison(directories, out or Path("runs/comparison"))
        console.print(f"comparison: {page}", soft_wrap=True)
        return
    (source,) = sources
    if not Path(source).is_dir():
        if watch:
            raise UsageError(
                f"--watch goes with a run directory, got {source}: give the folder that the run writes into"
            )
        run_stages(load_experiment(source, override or ()), out or default_out(source), "report")
        return
    if out is not None or override:
        raise UsageError(f"{source} is a run directory; --out and --set go with an experiment")
    found = RunDirectory.existing(Path(source))
    if watch:
        from crosspatch.experiment.page import watch as watch_run

        console.print(f"watching {found.root}; open {found.report}, which loads itself anew; stop with Ctrl-C")
        watch_run(found, every)
        return
    from crosspatch.experiment.page import write_run_report

    write_run_report(found)
    console.print(f"report: {found.report}", soft_wrap=True)
