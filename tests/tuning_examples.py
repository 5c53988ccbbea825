"""A few examples to train a tiny pair on, and a way to stop a training."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crosspatch.config import Data
from crosspatch.data.splits import make_splits
from crosspatch.tables import TRAINING
from crosspatch.training.examples import Example
from crosspatch.training.log import TrainingLog
from crosspatch.training.sft import finetune
from pairs import make_pair

SPLITS = make_splits(Data(train=8, validation=2, related=0), seed=0)
TRAIN, VALIDATION = (
    [Example.of(problem, make_pair("qwen3").prompts, 1024) for problem in problems]
    for problems in (SPLITS.train, SPLITS.validation)
)


def tuned(model, folder, settings, train=TRAIN, validation=VALIDATION, **options):
    """Fine-tune a model in place; returns the log."""
    finetune(model, train, validation, settings, folder, **options)
    return TRAINING.read(folder / TRAINING.path()).filter(run="corrupted")


@contextmanager
def interrupted_at(step: int, monkeypatch: pytest.MonkeyPatch, run: str | None = None) -> Iterator[None]:
    """Within the context somebody presses Ctrl-C when a training, of this name, has logged this step."""
    logged = TrainingLog.on_log

    def interrupted(self, args, state, control, logs=None, **more):
        logged(self, args, state, control, logs, **more)
        if state.global_step == step and run in (None, self.run):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLog, "on_log", interrupted)
        yield
