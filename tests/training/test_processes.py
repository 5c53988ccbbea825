"""Trainings in processes: several share one with the same losses; a killed one resumes to the same weights."""

import resource
import socket
import time

import pytest
from safetensors.torch import load_file

from commands import ended, finished, killed, started
from crosspatch.config import Finetune
from crosspatch.errors import UsageError
from crosspatch.tables import TRAINING
from crosspatch.training import processes


@pytest.mark.parametrize(
    ("count", "batch", "accumulation", "expected"),
    [(1, 2, 2, (2, 2)), (2, 2, 2, (2, 1)), (2, 4, 1, (2, 1)), (4, 2, 8, (2, 2)), (4, 4, 2, (1, 2))],
)
def test_a_step_keeps_its_examples_or_is_refused(monkeypatch, count, batch, accumulation, expected):
    monkeypatch.setenv("WORLD_SIZE", str(count))
    shared = processes.shared(Finetune(batch_size=batch, accumulation=accumulation))
    assert shared == expected
    assert count * shared[0] * shared[1] == batch * accumulation
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="3 processes cannot share steps of batch_size 2 times accumulation 2"):
        processes.shared(Finetune())


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    """Two with the environment of `torchrun` and `accelerate launch`, on the CPU by gloo.

    Nine examples and three fill neither a step nor batches for two.
    """
    settings = ["controls=twin", "finetune.precision=float32", "data.train=9", "data.validation=3"]
    command = ["finetune", "tiny", *(part for setting in settings for part in ("--set", setting)), "--out"]
    common = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    one_log, *logs = (tmp_path / f"{name}.log" for name in ("one", "first", "second"))
    assert finished(one_log, *command, tmp_path / "one", environment=common) == 0, one_log.read_text()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    both = [
        started(log, *command, tmp_path / "two", environment=common | group | {"RANK": rank, "LOCAL_RANK": rank})
        for rank, log in zip("01", logs, strict=True)
    ]
    assert [ended(process) for process in both] == [0, 0], [log.read_text() for log in logs]
    for logged, shared in ((one_log.read_text(), False), ("".join(log.read_text() for log in logs), True)):
        assert ("2 processes share each step, 2 x 1 examples each" in logged) == shared
        assert logged.count("finetune (stage 2 of 3") == 1
    one, two = (TRAINING.read(tmp_path / name / "training.parquet") for name in ("one", "two"))
    assert one.height == two.height == 30
    assert one.select("run", "step").equals(two.select("run", "step"))
    for column in ("train_loss", "eval_loss", "grad_norm"):
        assert (one[column] - two[column]).abs().max() < 1e-4
        # The control: one step to the next is more than that.
        assert one.filter(run="twin")[column].drop_nulls().diff().abs().min() > 1e-4


COMMAND = [
    "finetune", "tiny", "--set", "finetune.epochs=8", "--set", "finetune.checkpoint_every=1",
    "--set", "finetune.precision=float32", "--set", "models.device=cpu", "--out",
]  # fmt: skip


def trained(out):
    log = out.with_suffix(".log")
    assert finished(log, *COMMAND, out) == 0, log.read_text()
    return load_file(out / "models" / "corrupted" / "model.safetensors")


def kill_after_checkpoint(out, step):
    """Start the training, and kill it as soon as a checkpoint of this step or a later one is being written."""
    process = started(out.with_suffix(".log"), *COMMAND, out)
    while process.is_alive():
        steps = [int(path.name.split("-")[1]) for path in (out / "checkpoints").glob("corrupted/checkpoint-*")]
        if max(steps, default=0) >= step:
            break
        time.sleep(0.002)
    assert killed(process), "the training had ended before it could be killed"


@pytest.mark.slow
def test_killed_and_out_of_room_it_ends_in_the_same_weights(tmp_path):
    """The control, another seed that ends in other weights, is in test_sft."""
    out, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    theirs = trained(undisturbed)
    # In the middle of the second epoch, and again later.
    kill_after_checkpoint(out, 3)
    kill_after_checkpoint(out, 8)
    before = {path.name for path in (out / "checkpoints" / "corrupted").iterdir()}

    # Files may be as large as the weights now, but not as the optimizer's state.
    room = (undisturbed / "models" / "corrupted" / "model.safetensors").stat().st_size + 100_000
    log = tmp_path / "full.log"
    process = started(log, *COMMAND, out)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    assert ended(process) == 1
    last_line = log.read_text().strip().splitlines()[-1]
    assert "training of corrupted stopped at step" in last_line
    assert "could not be written" in last_line
    assert "Traceback" not in log.read_text()
    whole = {path.parent.name for path in (out / "checkpoints").glob("corrupted/*/trainer_state.json")}
    assert whole
    assert whole & before or len(before) > 1
    assert not (out / "models" / "corrupted").exists()

    ours = trained(out)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    logs = [TRAINING.read(folder / "training.parquet") for folder in (out, undisturbed)]
    assert logs[0]["train_loss"].equals(logs[1]["train_loss"])
    assert not (out / "checkpoints").exists()
