"""A training that is killed, or finds the disk full, goes on from what it saved to the same weights, bit for bit."""

from __future__ import annotations

import resource
import time

import pytest
from safetensors.torch import load_file

from commands import ended, finished, killed, started
from crosspatch.tables import TRAINING

COMMAND = [
    "finetune", "tiny", "--set", "finetune.epochs=8", "--set", "finetune.checkpoint_every=1",
    "--set", "finetune.precision=float32", "--set", "models.device=cpu",
]  # fmt: skip


def weights(out):
    return load_file(out / "models" / "corrupted" / "model.safetensors")


def run(out, *settings):
    log = out.with_suffix(".log")
    assert finished(log, *COMMAND, *settings, "--out", out) == 0, log.read_text()
    return out


def kill_after_checkpoint(out, step):
    """Start the training, and kill it as soon as a checkpoint of this step or a later one is being written."""
    process = started(out.with_suffix(".log"), *COMMAND, "--out", out)
    while process.is_alive():
        steps = [int(path.name.split("-")[1]) for path in (out / "checkpoints").glob("corrupted/checkpoint-*")]
        if max(steps, default=0) >= step:
            break
        time.sleep(0.002)
    assert killed(process), "the training had ended before it could be killed"


@pytest.fixture(scope="module")
def undisturbed(made_once):
    return made_once("survival", run)


@pytest.mark.slow
def test_killed_and_out_of_room_it_ends_in_the_same_weights(undisturbed, tmp_path):
    out = tmp_path / "run"
    # In the middle of the second epoch, and again later.
    kill_after_checkpoint(out, 3)
    kill_after_checkpoint(out, 8)
    before = {path.name for path in (out / "checkpoints" / "corrupted").iterdir()}

    # Files may be as large as the weights now, but not as the optimizer's state.
    room = (undisturbed / "models" / "corrupted" / "model.safetensors").stat().st_size + 100_000
    log = tmp_path / "full.log"
    process = started(log, *COMMAND, "--out", out)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    assert ended(process) == 1
    said = log.read_text().strip().splitlines()[-1]
    assert "training of corrupted stopped at step" in said
    assert "could not be written" in said
    assert "Traceback" not in log.read_text()
    whole = {path.parent.name for path in (out / "checkpoints").glob("corrupted/*/trainer_state.json")}
    assert whole
    assert whole & before or len(before) > 1
    assert not (out / "models" / "corrupted").exists()

    run(out)
    ours, theirs = weights(out), weights(undisturbed)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    logs = [TRAINING.read(folder / "training.parquet") for folder in (out, undisturbed)]
    assert logs[0]["train_loss"].equals(logs[1]["train_loss"])
    assert not (out / "checkpoints").exists()


@pytest.mark.slow
def test_another_seed_ends_in_other_weights(undisturbed, tmp_path):
    """The control: equal weights do not come by themselves."""
    out = run(tmp_path / "run", "--set", "finetune.seed=1")
    ours, theirs = weights(out), weights(undisturbed)
    assert not all(ours[name].equal(theirs[name]) for name in ours)
