"""A sweep of a tiny pair in many small shards, ready to begin: its models and problems are made."""

from __future__ import annotations

import shutil
from pathlib import Path

from crosspatch.experiment import ExperimentRun
from crosspatch.settings_io import load_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import SCORES

# Nine prompts under four patches: eighteen shards, two to a prompt.
SETTINGS = (
    "data.related=6", "data.unrelated_math=2", "data.general=1", "patch.related=6", "patch.unrelated_math=2",
    "patch.shard_rows=2", "generation.max_new_tokens=12", "patch.controls=[self, random]", "finetune.epochs=1",
    # Where it is measured, the load of the machine decides, and with it which tokens are nearly tied.
    "finetune.precision=float32",
)  # fmt: skip
# The same for the command line.
OPTIONS = tuple(part for setting in SETTINGS for part in ("--set", setting))


def ready_run(root: Path) -> Path:
    """A run directory in which all is done that comes before patching."""
    ExperimentRun.start(load_experiment("tiny", SETTINGS), root, ("finetune",)).run("finetune")
    return root


def copy_of(run: Path, to: Path) -> Path:
    """The same run elsewhere."""
    shutil.copytree(run, to, symlinks=True)
    return to


def contents(root: Path) -> dict[str, bytes]:
    """The bytes of all that a sweep leaves: scores, controls, mistakes and texts."""
    tables = [root / "generations.parquet", root / "vocabulary.parquet", root / "behaviour.parquet"]
    parts = [path for name in ("scores", "controls", "mistakes") for path in sorted((root / name).rglob("*.parquet"))]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in [*tables, *parts]}


def left_behind(root: Path) -> list[str]:
    """Files that nobody needs when a command is over."""
    return [*half_written(root), *(str(path) for path in root.rglob("?*.lock"))]


def half_written(root: Path) -> list[str]:
    """Files that never became whole."""
    return [str(path) for path in root.rglob("*partial")]


def rows_in_order(run: RunDirectory) -> bool:
    """Whether all scores stand by prompt, direction, patch and step, as these were asked for."""
    prompts = {problem: i for i, problem in enumerate(run.asked())}
    rows = [
        (prompts[p], int(patch[1:].split(".")[0]), step)
        for p, patch, step in run.read(SCORES).select("prompt_id", "patch", "step").iter_rows()
    ]
    return rows == sorted(rows)
