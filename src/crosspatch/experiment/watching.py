"""The page of a run while it goes on: made anew whenever there is more to show. Knows nothing of what is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from crosspatch.experiment.page import write_run_report
from crosspatch.storage.run import RunDirectory


def watch(
    directory: RunDirectory, every: int, say: Callable[[str], None], *, wait: Callable[[float], None] = time.sleep
) -> None:
    """Write the page every so many seconds that brought something new, until no stage of the run is going on.

    A page that is open loads itself anew. The last one has the figures too. Between two stages a run seems at rest, so
    that has to last for two looks.
    """
    seen, idle = None, 0
    while True:
        there, stages = _there(directory), _running(directory)
        idle = 0 if stages else idle + 1
        if idle == 2:
            break
        # The run's own report is under way.
        if there != seen and stages != {"report"}:
            write_run_report(directory, figures=False, refresh=every)
            say(f"{time.strftime('%H:%M:%S')} {directory.report}")
            seen = there
        wait(every)
    write_run_report(directory)
    say(f"no stage is running; the report is complete as far as the run is: {directory.report}")


def _there(directory: RunDirectory) -> list[tuple[Path, int, int]]:
    # What the report writes itself (statistics, figures) is no news.
    found = [directory.record_file, *directory.results()]
    return sorted((path, path.stat().st_mtime_ns, path.stat().st_size) for path in found)


def _running(directory: RunDirectory) -> set[str]:
    return {name for name, stage in directory.record()["stages"].items() if stage.get("state") == "running"}
