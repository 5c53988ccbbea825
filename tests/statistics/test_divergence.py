"""Divergence against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from crosspatch.statistics.status import divergence
from crosspatch.tables import TRAINING


def point(run: str, step: int, train: float | None = None, evaluation: float | None = None) -> dict[str, Any]:
    return {
        "run": run,
        "step": step,
        "epoch": step / 10,
        "train_loss": train,
        "eval_loss": evaluation,
        "learning_rate": None,
        "grad_norm": None,
    }


def test_each_evaluation_takes_the_last_training_loss_of_its_run() -> None:
    frame = divergence(
        TRAINING.frame(
            [
                point("b", 5, evaluation=1.0),
                point("a", 0, evaluation=2.0),
                point("a", 10, 0.5),
                point("a", 12, 0.25),
                point("a", 12, evaluation=0.375),
                point("b", 1, 3.0),
                point("a", 20, 0.125),
            ]
        )
    )
    assert frame["run"].to_list() == ["a", "a", "b"]
    assert frame["train_loss"].to_list() == [None, 0.25, 3.0]
    assert frame["divergence"].to_list() == [None, pytest.approx(0.125), pytest.approx(-2.0)]


def test_no_training_gives_no_rows() -> None:
    assert divergence(TRAINING.frame()).is_empty()
