"""Several processes that share a training: what each takes of a step, and that the losses stay what they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from commands import finished
from crosspatch.config import Finetune
from crosspatch.errors import UsageError
from crosspatch.tables import TRAINING
from crosspatch.training import processes


@pytest.mark.parametrize(
    ("count", "batch", "accumulation", "expected"),
    [(1, 2, 2, (2, 2)), (2, 2, 2, (2, 1)), (2, 4, 1, (2, 1)), (4, 2, 8, (2, 2)), (4, 4, 2, (1, 2))],
)
def test_a_step_stays_what_it_is(monkeypatch, count, batch, accumulation, expected):
    monkeypatch.setenv("WORLD_SIZE", str(count))
    shared = processes.shared(Finetune(batch_size=batch, accumulation=accumulation))
    assert shared == expected
    assert count * shared[0] * shared[1] == batch * accumulation


def test_a_step_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="3 processes cannot share steps of batch_size 2 times accumulation 2"):
        processes.shared(Finetune())


def test_alone_nothing_is_announced(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes.count() == 1
    assert processes.leads()
    processes.announce("corrupted", cpu=True)
    processes.wait(cpu=True)


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    """Started as a user would on two GPUs; here on the CPU, by gloo.

    Nine examples and three fill neither a step nor batches for two.
    """
    settings = ["--set", "controls=twin", "--set", "finetune.precision=float32"]
    settings += ["--set", "data.train=9", "--set", "data.validation=3"]
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = ["finetune", "tiny", *settings, "--out"]
    launcher = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
    ]  # fmt: skip
    log = tmp_path / "log"
    assert finished(log, *command, tmp_path / "one", environment=environment) == 0, log.read_text()
    done = subprocess.run(
        [*launcher, "-m", "crosspatch", *command, tmp_path / "two"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-10_000:]
    for said, shared in ((log.read_text(), False), (done.stdout + done.stderr, True)):
        assert ("2 processes share each step, 2 x 1 examples each" in said) == shared
        assert said.count("finetune: starting") == 1
    one, two = (TRAINING.read(tmp_path / name / "training.parquet") for name in ("one", "two"))
    assert one.height == two.height == 30
    assert one.select("run", "step").equals(two.select("run", "step"))
    for column in ("train_loss", "eval_loss", "grad_norm"):
        assert (one[column] - two[column]).abs().max() < 1e-4
        # The control: one step to the next is more than that.
        assert one.filter(run="twin")[column].drop_nulls().diff().abs().min() > 1e-4
