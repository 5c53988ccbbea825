"""RUN/inspect: the logs of a run as files, all of them or none.

Knows where logs are kept and under which names; not what stands in them.
"""

from __future__ import annotations

import re
import shutil
from datetime import datetime
from pathlib import Path
from zipfile import ZipFile

from crosspatch.errors import UsageError
from crosspatch.files import partial_of
from crosspatch.storage.inspect_logs.log import LogMaker
from crosspatch.storage.inspect_logs.texts import texts_by_model
from crosspatch.storage.run import RunDirectory

_LONGEST_NAME = 80


def write_inspect_logs(run: RunDirectory) -> list[Path]:
    """Write a log for each model of a run, patched or not, into RUN/inspect; logs that are there are replaced.

    The same run gives the same bytes. Raises UsageError where inspect_ai is missing, or the run's texts are not all
    there.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ImportError:
        raise UsageError('Inspect logs need the package inspect_ai: pip install "crosspatch[inspect]"') from None

    models, maker = texts_by_model(run), LogMaker.of(run)
    folder = run.root / "inspect"
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        names = [f"{place:03d}-{_file_name(model.name)}.eval" for place, model in enumerate(models)]
        # The viewer lists what was written last first.
        for name, model in reversed(list(zip(names, models, strict=True))):
            log = maker.log(model)
            write_eval_log(log, partial / name)
            _without_times(partial / name, log.eval.created)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [folder / name for name in names]


def _file_name(model: str) -> str:
    """A model's name as every file system takes it."""
    return re.sub(r"[^\w.+@,-]+", "_", model)[:_LONGEST_NAME]


def _without_times(path: Path, created: str) -> None:
    """Replace the times at which the parts of a log were written by the run's own."""
    # A zip file's times begin in 1980 and have no zone.
    when = datetime.fromisoformat(created).timetuple()[:6]
    again = partial_of(path)
    with ZipFile(path) as log, ZipFile(again, "w") as timeless:
        for part in log.infolist():
            content = log.read(part)
            part.date_time = when
            timeless.writestr(part, content)
    again.replace(path)
