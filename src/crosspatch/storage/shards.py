"""The shards of a stage: which are planned, done, running or failed, and whether the files of finished ones are intact.

Shards are independent, and computing a shard again gives the same files. RUN/shards/STAGE contains

    plan.json          the work of each shard; written once
    00012.json         shard 12 is done: the SHA-256 of each of its files, and facts about it; written last
    00012.failed.json  the number of failed attempts, and the last error
    00012.lock         locked by the process that computes the shard

Any number of processes can share the work, and any of them can end at any time.
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
    """The shards of one stage of a run directory, numbered from 0."""

    root: Path
    stage: str

    @property
    def folder(self) -> Path:
        """The folder of the stage's plan, records and locks."""
        return self.root / "shards" / self.stage

    @property
    def planned(self) -> bool:
        """Whether the plan exists."""
        return (self.folder / "plan.json").is_file()

    def plan(self) -> dict[str, Any]:
        """Read the plan: a list `shards` with an item for each shard, and values that all shards share."""
        return _read(self.folder / "plan.json")

    def put_plan(self, plan: Mapping[str, Any]) -> None:
        """Write the plan."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "plan.json", plan, indent=1)

    def __len__(self) -> int:
        return len(self.plan()["shards"]) if self.planned else 0

    def done(self, shard: int) -> bool:
        """Whether a shard is finished."""
        return self._record(shard).is_file()

    def left(self) -> list[int]:
        """Return the shards that are not finished."""
        return [shard for shard in range(len(self)) if not self.done(shard)]

    def record(self, shard: int) -> dict[str, Any]:
        """Read the record of a finished shard: facts, and in `files` the checksums by path in the run directory."""
        return _read(self._record(shard))

    def keep(self, shard: int, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
        """Write a shard's `files` (contents by path in the run directory), then the record that the shard is done."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial:
                partial.write_bytes(content)
        sums = {name: checksum(content) for name, content in files.items()}
        write_json(self._record(shard), {"files": sums, **facts}, indent=1)
        self.forget_failure(shard)

    def forget(self, shard: int) -> None:
        """Remove the record that a shard is done, so that it is computed again."""
        self._record(shard).unlink(missing_ok=True)

    def damaged(self) -> dict[int, str]:
        """Describe the damage to files of finished shards, by shard; intact shards are not included."""
        found = {shard: self._damage(shard) for shard in range(len(self)) if self.done(shard)}
        return {shard: wrong for shard, wrong in found.items() if wrong is not None}

    @contextmanager
    def claim(self, shard: int) -> Iterator[bool]:
        """Lock a shard within the context; yield False if another process holds the lock."""
        with locked(self._lock(shard)) as mine:
            yield mine

    def clear_locks(self) -> None:
        """Remove the lock files; call this when all shards are done."""
        for path in self.folder.glob("*.lock"):
            remove_lock(path)

    def tries(self, shard: int) -> int:
        """Return the number of failed attempts at a shard."""
        return int(self.failure(shard).get("tries", 0))

    def failure(self, shard: int) -> dict[str, Any]:
        """Read the number of failed attempts (`tries`) and the last `error` of a shard; empty if it did not fail."""
        path = self._failure(shard)
        return _read(path) if path.is_file() else {}

    def note_failure(self, shard: int, tries: int, error: str) -> None:
        """Record the number of failed attempts and the last error of a shard."""
        write_json(self._failure(shard), {"tries": tries, "error": error}, indent=1)

    def forget_failure(self, shard: int) -> None:
        """Remove the record of a shard's failures."""
        self._failure(shard).unlink(missing_ok=True)

    def forget_failures(self) -> None:
        """Remove the records of all failures."""
        for path in self.folder.glob("*.failed.json"):
            path.unlink(missing_ok=True)

    def state(self, shard: int) -> State:
        """Return the state of a shard."""
        if self.done(shard):
            return "done"
        if is_locked(self._lock(shard)):
            return "running"
        return "failed" if self.tries(shard) else "waiting"

    def worker(self, shard: int) -> str | None:
        """Describe the process that computes the shard; None if unknown."""
        return holder(self._lock(shard))

    def _damage(self, shard: int) -> str | None:
        """Describe the damage to the files of a finished shard; None if they are intact."""
        try:
            files = self.record(shard).get("files")
        except CrosspatchError as error:
            return str(error)
        if not isinstance(files, dict):
            return f"{self._record(shard)} cannot be read: expected checksums of files in it"
        for name, known in files.items():
            path = self.root / name
            if not path.is_file():
                return f"{path} is missing"
            if checksum(path.read_bytes()) != known:
                return f"{path} has changed since it was written"
        return None

    def _record(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.json"

    def _failure(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.failed.json"

    def _lock(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.lock"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CrosspatchError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise CrosspatchError(f"{path} has a {type(found).__name__}, expected a JSON object")
    return found
