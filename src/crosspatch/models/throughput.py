"""Measures how many operations and bytes per second a model reaches on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from crosspatch.models.placement import pick_device

# Models reach this share of a device's best rates of multiplying and reading memory.
SHARE = 0.4


@dataclass(frozen=True)
class Throughput:
    """The operations per second, by dtype, and bytes per second that models reach."""

    operations: dict[str, float]
    bytes: float
    bf16_is_faster: bool


@cache
def this_machine() -> Throughput:
    """Measure this machine's first GPU, or its CPU."""
    device = pick_device("auto")

    def operations(dtype: torch.dtype) -> float:
        # A small product does not show the rate; where bf16 is emulated, a large one would take seconds.
        for side in (256, 512, 1024, 2048):
            a, b = (torch.ones(rows, side, dtype=dtype, device=device) for rows in (side // 4, side))
            taken = _seconds(partial(torch.matmul, a, b))
            if taken > 0.02:
                break
        return SHARE * 2 * (side // 4) * side**2 / taken

    rates = {name: operations(getattr(torch, name)) for name in ("float32", "bfloat16")}
    much = torch.ones(64 * 2**20 // 4, device=device)
    return Throughput(rates, SHARE * much.numel() * 4 / _seconds(much.sum), trains_faster_in_bf16(device))


@cache
def trains_faster_in_bf16(device: str) -> bool:
    """Whether a training step is faster in bf16 mixed precision than in float32; tries both for about a second.

    CPU flags are not enough: a Xeon with AVX512_BF16 but without AMX is slower in bf16.
    """

    def step(rows: int, width: int, mixed: bool) -> float:
        layers = torch.nn.Sequential(
            torch.nn.Linear(width, 3 * width), torch.nn.SiLU(), torch.nn.Linear(3 * width, width)
        ).to(device)
        x = torch.ones(rows, width, device=device)

        def train() -> None:
            with torch.enable_grad(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=mixed):
                layers(x).sum().backward()

        return _seconds(train)

    # Try a small step first: if bf16 is emulated, a large one would take long.
    sizes = ((64, 256, 4.0), (512, 768, 0.9))
    try:
        with torch.random.fork_rng(devices=[]):
            return all(step(n, w, True) <= margin * step(n, w, False) for n, w, margin in sizes)
    except RuntimeError:
        return False


def _seconds(work: Callable[[], Any]) -> float:
    """Return the seconds that `work` takes on its device: the fastest of three runs, after a warm-up run."""
    work()
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
