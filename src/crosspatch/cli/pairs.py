"""The commands that work on any pair of checkpoints: patch and verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from crosspatch.cli.application import (
    Out,
    Overrides,
    StageCommand,
    app,
    console,
    default_out,
    print_rows,
    run_stages,
    setting_option,
)
from crosspatch.config import Directions, Engine, Experiment, Persistence
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.settings_io import load_experiment, make_experiment

_CLEAN = typer.Option(
    "--clean", "--base", help="Clean model: folder, hub id, PEFT adapter folder, GGUF file (models.clean)"
)
_CORRUPTED = typer.Option(
    "--corrupted", "--finetuned", help="Corrupted model, named in the same ways (models.corrupted)"
)
# Options of `patch` for settings of other names than patch.NAME.
_KEYS = {
    "clean": "models.clean",
    "corrupted": "models.corrupted",
    "prompt": "patch.questions",
    "max_new_tokens": "generation.max_new_tokens",
    "executor": "execution.executor",
    "workers": "execution.workers",
}


@app.command(cls=StageCommand)
def patch(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[EXPERIMENT]", help="An experiment; or give --clean and --corrupted instead"),
    ] = None,
    clean: Annotated[str | None, _CLEAN] = None,
    corrupted: Annotated[str | None, _CORRUPTED] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A question; can be repeated (patch.questions)")] = None,
    prompts: Annotated[
        str | None, typer.Option(help='JSONL file with lines {"prompt_id": …, "question": …} (patch.prompts)')
    ] = None,
    layers: Annotated[str | None, setting_option("patch.layers")] = None,
    component: Annotated[str | None, setting_option("patch.component")] = None,
    heads: Annotated[str | None, setting_option("patch.heads")] = None,
    window: Annotated[int | None, setting_option("patch.window")] = None,
    patches: Annotated[
        list[str] | None,
        typer.Option(
            "--patch", help="A patch such as L17.attn_out+L18.head.3, not a grid; can be repeated (patch.patches)"
        ),
    ] = None,
    schedule: Annotated[str | None, setting_option("patch.schedule")] = None,
    direction: Annotated[Directions | None, setting_option("patch.direction")] = None,
    persistence: Annotated[Persistence | None, setting_option("patch.persistence")] = None,
    engine: Annotated[Engine | None, setting_option("patch.engine")] = None,
    max_new_tokens: Annotated[int | None, setting_option("generation.max_new_tokens")] = None,
    attribution: Annotated[int | None, setting_option("patch.attribution", metavar="K")] = None,
    target_fraction: Annotated[float | None, setting_option("patch.target_fraction")] = None,
    beam: Annotated[int | None, setting_option("patch.beam")] = None,
    memory_gb: Annotated[float | None, setting_option("patch.memory_gb")] = None,
    quick_check: Annotated[bool | None, setting_option("patch.quick_check", "--quick-check/--no-quick-check")] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Compute slice I of N of the sweep, while other processes compute the other slices; then run the "
            "command without --shard",
        ),
    ] = None,
    executor: Annotated[Literal["local", "ray", "slurm"] | None, setting_option("execution.executor")] = None,
    workers: Annotated[int | None, setting_option("execution.workers")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Read prompts without the chat template")] = False,
    out: Out = None,
    override: Overrides = None,
) -> None:
    """Patch activations of one model into the other while text is generated, and measure the recovered fraction.

    Works on any two checkpoints of the same architecture, dimensions and tokenizer, such as a base and its fine-tuned
    model:

    crosspatch patch --clean BASE --corrupted CHILD --prompt "Solve for x: 5x + 3 = 18" --layers 8,18,28 --out DIR
    """
    from crosspatch.cli.tables import print_recovered, print_selection

    given = {
        _KEYS.get(name, f"patch.{name}"): value
        for name, value in context.params.items()
        if value not in (None, ()) and name not in ("source", "shard", "raw", "out", "override")
    }
    if raw:
        given["models.chat_template"] = "none"
    if source is None:
        if clean is None or corrupted is None:
            raise UsageError("give an experiment, or a pair with --clean and --corrupted")
        if not prompt and prompts is None:
            raise UsageError("give the prompts: --prompt TEXT or --prompts FILE.jsonl")
        if out is None:
            raise UsageError("give a folder for the results with --out")
        experiment = make_experiment({"name": f"{clean} and {corrupted}"}, override or (), given)
    else:
        experiment = load_experiment(source, override or (), given)
    out = out or default_out(source or "")
    if shard is not None:
        _patch_slice(experiment, out, shard)
        return
    directory = run_stages(experiment, out, "patch", "controls")
    print_selection(directory)
    print_recovered(directory)
    console.print(f"scores and texts are in {directory.root}; make the page with: crosspatch report {directory.root}")


def _patch_slice(experiment: Experiment, out: Path, shard: str) -> None:
    from crosspatch.experiment import ExperimentRun

    number, slash, of = shard.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UsageError(f"--shard got {shard!r}, expected i/n with i from 1 to n, such as 2/8")
    ExperimentRun.start(experiment, out, ("patch",)).run_slice(int(number), int(of))


@app.command(cls=StageCommand)
def verify(
    clean: Annotated[str, _CLEAN],
    corrupted: Annotated[str, _CORRUPTED],
    prompt: Annotated[str, typer.Option(help="A question")] = "Solve for x: 5x + 3 = 18",
    layers: Annotated[str, typer.Option(help='"all" or block numbers such as 8,18,28')] = "all",
    component: Annotated[
        str | None, typer.Option(help="Components, one or several  [default: all that the models have]")
    ] = None,
    heads: Annotated[str, typer.Option(help='Heads of the component head: "all" or numbers such as 0,3')] = "0",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Number of tokens that are generated and compared")] = 8,
    override: Overrides = None,
) -> None:
    """Compare the cached engines with the published algorithm on a pair, and print the largest differences."""
    given = {
        "models.clean": clean,
        "models.corrupted": corrupted,
        "patch.layers": layers,
        "patch.heads": heads,
        "patch.questions": [prompt],
        "generation.max_new_tokens": max_new_tokens,
        **({} if component is None else {"patch.component": component}),
    }
    experiment = make_experiment({}, override or (), given)
    from crosspatch.experiment.checks import check
    from crosspatch.experiment.run_context import load_pair
    from crosspatch.patching.quick_check import compare_engines

    check(experiment)
    pair = load_pair(experiment.models, clean, corrupted, experiment.seed)
    settings = experiment.patch
    rows = compare_engines(pair, prompt, settings.layers, settings.component, settings.heads, max_new_tokens)
    print_rows(
        "Differences from the reference engine",
        [
            {
                "engine": row["engine"],
                "component": row["component"],
                "persistence": row["persistence"],
                "direction": row["direction"],
                "steps": str(row["steps"]),
                "same tokens": "yes" if row["same_tokens"] else "no",
                "largest ΔL difference": f"{row['largest_delta']:.1e}",
                "largest KL difference": f"{row['largest_kl']:.1e}",
            }
            for row in rows.iter_rows(named=True)
        ],
    )
    # ΔLs may differ by 1e-3 logits, which is enough for float32.
    if not (rows["same_tokens"].all() and (rows["largest_delta"] <= 1e-3).all()):
        raise CrosspatchError(
            "a cached engine and the published algorithm differ on this pair; use another engine, or --engine reference"
        )
