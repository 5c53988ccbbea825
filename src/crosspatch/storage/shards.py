"""The shards of a stage: which are planned, done, running or failed, and whether the files of those done are intact.

Shards are independent, and a shard that is done again has the same files. RUN/shards/STAGE holds

    plan.json          what each shard is; made once
    00012.json         shard 12 is done: the SHA-256 of each of its files, and how it was made; written last
    00012.failed.json  how often it was tried without success, and what happened last
    00012.lock         locked by the process that works on it

Any number of processes can share the work, and any of them can end at any moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crosspatch.errors import CrosspatchError
from crosspatch.files import checksum, write_json, written_whole
from crosspatch.storage.lock import holder, is_locked, locked, remove_lock

State = Literal["done", "running", "failed", "waiting"]


@dataclass(frozen=True)
class Shards:
    """One stage's shards in a run directory; they are called by their numbers, from 0."""

    root: Path
    stage: str

    @property
    def folder(self) -> Path:
        """The folder of these files."""
        return self.root / "shards" / self.stage

    @property
    def planned(self) -> bool:
        """Whether it is known what there is to do."""
        return (self.folder / "plan.json").is_file()

    def plan(self) -> dict[str, Any]:
        """What there is to do: under `shards` one entry for each, beside it what holds for all."""
        return _read(self.folder / "plan.json")

    def put_plan(self, plan: Mapping[str, Any]) -> None:
        """Keep what there is to do."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "plan.json", plan, indent=1)

    def __len__(self) -> int:
        return len(self.plan()["shards"]) if self.planned else 0

    def done(self, shard: int) -> bool:
        """Whether a shard was finished."""
        return self._record(shard).is_file()

    def left(self) -> list[int]:
        """The shards that were not."""
        return [shard for shard in range(len(self)) if not self.done(shard)]

    def record(self, shard: int) -> dict[str, Any]:
        """How a finished shard was made, with the checksums of its `files` by their paths in the run directory."""
        return _read(self._record(shard))

    def keep(self, shard: int, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
        """Write a shard's files, by their paths in the run directory, and then that it is done."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial:
                partial.write_bytes(content)
        sums = {name: checksum(content) for name, content in files.items()}
        write_json(self._record(shard), {"files": sums, **facts}, indent=1)
        self.forget_failure(shard)

    def forget(self, shard: int) -> None:
        """Let a shard be done again."""
        self._record(shard).unlink(missing_ok=True)

    def damaged(self) -> dict[int, str]:
        """What is wrong with the files of finished shards, by shard, in words."""
        found = {}
        for shard in range(len(self)):
            if self.done(shard):
                try:
                    files = _files(self._record(shard))
                    wrong = [why for name, known in files.items() if (why := _damage(self.root / name, known))]
                except CrosspatchError as error:
                    wrong = [str(error)]
                if wrong:
                    found[shard] = wrong[0]
        return found

    @contextmanager
    def claim(self, shard: int) -> Iterator[bool]:
        """Whether this process has the shard within the context: False where another one works on it."""
        with locked(self._lock(shard)) as mine:
            yield mine

    def clear_locks(self) -> None:
        """Remove the files of locks, when all shards are done."""
        for path in self.folder.glob("*.lock"):
            remove_lock(path)

    def tries(self, shard: int) -> int:
        """How often a shard was tried without success."""
        return int(self.failure(shard).get("tries", 0))

    def failure(self, shard: int) -> dict[str, Any]:
        """Its `tries` and the last `error`; empty where there was none."""
        path = self._failure(shard)
        return _read(path) if path.is_file() else {}

    def note_failure(self, shard: int, tries: int, error: str) -> None:
        """Keep that a shard was tried so often, and what happened."""
        write_json(self._failure(shard), {"tries": tries, "error": error}, indent=1)

    def forget_failure(self, shard: int) -> None:
        """Let a shard be tried as if for the first time."""
        self._failure(shard).unlink(missing_ok=True)

    def forget_failures(self) -> None:
        """Let every shard be tried as if for the first time."""
        for path in self.folder.glob("*.failed.json"):
            path.unlink(missing_ok=True)

    def state(self, shard: int) -> State:
        """A shard's state."""
        if self.done(shard):
            return "done"
        if is_locked(self._lock(shard)):
            return "running"
        return "failed" if self.tries(shard) else "waiting"

    def worker(self, shard: int) -> str | None:
        """Which process works on it."""
        return holder(self._lock(shard))

    def _record(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.json"

    def _failure(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.failed.json"

    def _lock(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.lock"


def _files(record: Path) -> dict[str, str]:
    """The checksums in the record of a finished shard."""
    files = _read(record).get("files")
    if not isinstance(files, dict) or not all(isinstance(known, str) for known in files.values()):
        raise CrosspatchError(f"{record} cannot be read: it has no checksums of files")
    return files


def _damage(path: Path, known: str) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    return None if checksum(path.read_bytes()) == known else f"{path} is not as it was written"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CrosspatchError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise CrosspatchError(f"{path} holds a {type(found).__name__}, expected settings of a shard")
    return found
