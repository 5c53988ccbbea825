"""A sweep of a tiny pair in many small shards, ready to begin: its models and problems are made."""

import shutil
from pathlib import Path

# Six prompts under four patches: twelve shards, two to a prompt.
SETTINGS = (
    "data.related=4", "data.unrelated_math=1", "data.general=1", "patch.related=4", "patch.shard_rows=2",
    "generation.max_new_tokens=6", "patch.controls=[self, random]", "finetune.epochs=1",
    # Where it is measured, the load of the machine decides, and with it which tokens are nearly tied.
    "finetune.precision=float32",
)  # fmt: skip
# The same for the command line.
OPTIONS = tuple(part for setting in SETTINGS for part in ("--set", setting))


def copy_of(run: Path, to: Path) -> Path:
    """The same run elsewhere."""
    shutil.copytree(run, to, symlinks=True)
    return to


def contents(root: Path) -> dict[str, bytes]:
    """The bytes of all that a sweep leaves: scores, controls, mistakes and texts."""
    tables = [root / "generations.parquet", root / "vocabulary.parquet", root / "behaviour.parquet"]
    parts = [path for name in ("scores", "controls", "mistakes") for path in sorted((root / name).rglob("*.parquet"))]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in [*tables, *parts]}


def left_behind(root: Path, *kinds: str) -> list[str]:
    """Files that nobody needs when a command is over: half-written ones, and locks of shards."""
    return [str(path) for kind in kinds or ("*partial", "?*.lock") for path in root.rglob(kind)]
