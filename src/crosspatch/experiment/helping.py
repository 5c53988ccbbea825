"""What the other processes do where several train together: what the leading one announces, and nothing else."""

from __future__ import annotations

from pathlib import Path

from crosspatch.config import Experiment
from crosspatch.experiment.children import children, train_child
from crosspatch.experiment.search import variants
from crosspatch.experiment.teaching import TAUGHT, train_taught
from crosspatch.experiment.work import Work
from crosspatch.storage.run import RunDirectory


def train_along(experiment: Experiment, out: Path) -> None:
    """Train what is announced until nothing more is; nothing is said, and nothing written."""
    from crosspatch.models.placement import pick_device
    from crosspatch.training import processes

    cpu = pick_device(experiment.models.device) == "cpu"
    work = Work(experiment, RunDirectory(out), say=lambda line: None, one_of_several=True)
    known = {child.name: child for child in children(experiment)}
    known |= {variant.name: variant.child for variant in variants(experiment)}
    while (training := processes.announced(cpu=cpu)) is not None:
        if training == TAUGHT:
            train_taught(work)
        else:
            train_child(work, known[training])
