"""An experiment in one call."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from crosspatch import UsageError, load_experiment, run_experiment
from crosspatch.experiment.stages import ALL


def test_stages_are_done_once_and_the_run_comes_back(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    experiment = load_experiment("tiny")
    run = run_experiment(experiment, str(tmp_path / "run"), "data")
    assert run.done("data")
    assert run.splits()
    assert run_experiment(experiment, tmp_path / "run", "data") == run
    assert log.messages[-1] == "data: done before"


def test_what_is_no_stage_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got the stage evalute, expected one of data, teach"):
        run_experiment(load_experiment("tiny"), tmp_path / "run", "evalute")
    assert not (tmp_path / "run").exists()


def test_each_stage_names_a_function() -> None:
    for stage in ALL.values():
        module, _, name = stage.runs.partition(".")
        assert callable(getattr(import_module(f"crosspatch.experiment.{module}"), name))
        assert ALL.keys() >= set(stage.needs)
