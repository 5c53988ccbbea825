"""A machine's speed is tried with as much work as it does in a moment, whatever the machine."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from crosspatch.models import throughput
from crosspatch.models.throughput import operations_a_second


def tried(rate: float) -> tuple[float, list[int]]:
    """What is found of a machine that does so many operations a second, and the operations of each trial."""
    trials: list[int] = []

    def seconds(work):
        rows, side = work().shape
        trials.append(2 * rows * side * side)
        return trials[-1] / rate

    return operations_a_second(torch.float32, "cpu", seconds), trials


@pytest.mark.parametrize("rate", [1e6, 1e9, 1e11, 1e14])
def test_what_is_tried_takes_a_moment_and_finds_the_rate(rate):
    found, trials = tried(rate)
    assert found == pytest.approx(rate)
    # All but the last are quick, and the last is at most eight times the one before.
    assert sum(trials[:-1]) / rate < 2 * throughput._LONG
    assert all(later == 8 * earlier for earlier, later in pairwise(trials))


def test_a_fast_machine_is_tried_with_the_largest_and_a_slow_one_is_not():
    most = 2 * 512 * 2048 * 2048
    assert tried(1e12)[1][-1] == most
    assert tried(1e9)[1][-1] < most / 10
