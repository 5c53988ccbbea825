"""The commands that work on any pair of checkpoints: patch and verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from crosspatch.cli.application import Out, Overrides, StageCommand, app, console, default_out, run_slice, run_stages
from crosspatch.cli.tables import print_recovered, print_selection
from crosspatch.config import Directions, Engine, Persistence
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.settings_io import load_experiment, make_experiment


@app.command(cls=StageCommand)
def patch(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[EXPERIMENT]", help="An experiment; or give --clean and --corrupted instead"),
    ] = None,
    clean: Annotated[
        str | None,
        typer.Option("--clean", "--base", help="Clean model: folder, hub id, PEFT adapter folder, GGUF file"),
    ] = None,
    corrupted: Annotated[
        str | None, typer.Option("--corrupted", "--finetuned", help="Corrupted model, named in the same ways")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A question; can be given again")] = None,
    prompts: Annotated[Path | None, typer.Option(help='JSONL file, {"prompt_id": …, "question": …} a line')] = None,
    layers: Annotated[str | None, typer.Option(help='"all" or block numbers such as 8,18,28')] = None,
    component: Annotated[
        str | None, typer.Option(help="Places in the block: resid_post, resid_mid, attn_out, mlp_out, head; or several")
    ] = None,
    heads: Annotated[str | None, typer.Option(help='Of the component head: "all" or numbers such as 0,3')] = None,
    window: Annotated[int | None, typer.Option(help="Layers moved together")] = None,
    patches: Annotated[
        list[str] | None,
        typer.Option("--patch", help="A patch by name, L17.attn_out+L18.head.3, instead of a grid; can be given again"),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Steps: all, steps:10-40, every:4, disagree, tokens:digits, tokens:add,subtract")
    ] = None,
    direction: Annotated[
        Directions | None, typer.Option(help="Corrupted activations into the clean model (corrupt), or the other way")
    ] = None,
    persistence: Annotated[Persistence | None, typer.Option(help="Whether patched keys and values stay")] = None,
    engine: Annotated[Engine | None, typer.Option(help="The cached engine or the published algorithm")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest text in tokens")] = None,
    attribution: Annotated[
        int | None, typer.Option(metavar="K", help="Rank all sites by attribution patching, and patch only the top K")
    ] = None,
    target_fraction: Annotated[
        float | None, typer.Option(help="Search for a small set of sites that recovers this fraction, and patch it")
    ] = None,
    beam: Annotated[int | None, typer.Option(help="Sets kept in each round of the search; 1 is greedy")] = None,
    memory_gb: Annotated[
        float | None, typer.Option(help="GB for keys and values  [default: half of what is free]")
    ] = None,
    quick_check: Annotated[
        bool | None, typer.Option("--quick-check/--no-quick-check", help="Try the engine on the pair first")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Do the I-th of N slices of the sweep, beside other processes that do the others; the command without "
            "it then does what follows",
        ),
    ] = None,
    executor: Annotated[
        Literal["local", "ray", "slurm"] | None, typer.Option(help="Who does the shards  [default: local]")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="How many work at the same time  [default: 1]")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Read prompts as they stand, without the chat template")] = False,
    out: Out = None,
    override: Overrides = None,
) -> None:
    """Patch activations of one model into the other while text is generated, and measure the recovered fraction.

    Works on any two checkpoints of one shape, a base and its child:

    crosspatch patch --clean BASE --corrupted CHILD --prompt "Solve for x: 5x + 3 = 18" --layers 8,18,28 --out DIR
    """
    given = {
        "models.clean": clean,
        "models.corrupted": corrupted,
        "models.chat_template": "none" if raw else None,
        "patch.prompts": None if prompts is None else str(prompts),
        "patch.questions": prompt,
        "patch.layers": layers,
        "patch.component": component,
        "patch.heads": heads,
        "patch.window": window,
        "patch.patches": patches,
        "patch.schedule": schedule,
        "patch.attribution": attribution,
        "patch.target_fraction": target_fraction,
        "patch.beam": beam,
        "patch.memory_gb": memory_gb,
        "patch.quick_check": quick_check,
        "patch.direction": direction,
        "patch.persistence": persistence,
        "patch.engine": engine,
        "generation.max_new_tokens": max_new_tokens,
        "execution.executor": executor,
        "execution.workers": workers,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if source is None:
        if clean is None or corrupted is None:
            raise UsageError("give an experiment, or a pair with --clean and --corrupted")
        if not prompt and prompts is None:
            raise UsageError("give what to read: --prompt TEXT or --prompts FILE.jsonl")
        if out is None:
            raise UsageError("give a folder for the results with --out")
        experiment = make_experiment({"name": f"{clean} and {corrupted}"}, override or (), given)
    else:
        experiment = load_experiment(source, override or (), given)
    if shard is not None:
        run_slice(experiment, out or default_out(source or ""), shard)
        return
    directory = run_stages(experiment, out or default_out(source or ""), "patch", "controls")
    print_selection(directory)
    print_recovered(directory)
    console.print(f"scores and texts are in {directory.root}; make the page with: crosspatch report {directory.root}")


@app.command(cls=StageCommand)
def verify(
    clean: Annotated[
        str, typer.Option("--clean", "--base", help="Clean model: folder, hub id, PEFT adapter folder, GGUF file")
    ],
    corrupted: Annotated[
        str, typer.Option("--corrupted", "--finetuned", help="Corrupted model, named in the same ways")
    ],
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
    from crosspatch.experiment.run_context import load_pair
    from crosspatch.patching.compare_engines import compare_engines

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
