"""How many rows run at once, and what happens when memory runs out."""

from __future__ import annotations

import pytest
import torch

from crosspatch.errors import CrosspatchError
from crosspatch.models.blocks import text_config
from crosspatch.patching import batches
from crosspatch.patching.batches import prompts_at_once, rows_at_once, run_in_batches
from crosspatch.patching.engine import Prompt, run_cached
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.trajectory import PatchRun
from engines import equal_written
from pairs import QUESTIONS, architecture_pair

RUN = PatchRun(max_new_tokens=6)
ALL = patch_grid("all", 4)


@pytest.fixture(scope="module")
def pair():
    return architecture_pair("qwen3")


@pytest.fixture(scope="module")
def prompts(pair):
    return [Prompt(pair.encode(question), ALL, answers=True) for question in QUESTIONS]


@pytest.fixture(scope="module")
def whole(pair, prompts):
    return run_cached(pair, prompts, RUN)


def limited(most: int, error: Exception):
    """`run_cached` on a machine that holds so many rows, and what it was asked for."""
    asked: list[int] = []

    def run(pair, prompts, run):
        asked.append(sum(len(prompt.patches) for prompt in prompts))
        if asked[-1] > most:
            raise error
        return run_cached(pair, prompts, run)

    return run, asked


@pytest.mark.parametrize("rows", [1, 3, 4, 8, 256])
def test_cut_up_is_whole(pair, prompts, whole, rows):
    equal_written(whole, list(run_in_batches(pair, prompts, RUN, rows)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_and_goes_on_with_a_warning(pair, prompts, whole, monkeypatch, caplog, error):
    run, asked = limited(3, error)
    monkeypatch.setattr(batches, "run_cached", run)
    equal_written(whole, list(run_in_batches(pair, prompts, RUN, 256)))
    # Three prompts of four rows; one of them; then two rows of each prompt at a time.
    assert asked == [12, 4, 2, 2, 2, 2, 2, 2]
    assert caplog.messages == [f"out of memory; continuing with {rows} rows at once" for rows in (6, 2)]


def test_not_even_one_row(pair, prompts, monkeypatch):
    run, asked = limited(0, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(batches, "run_cached", run)
    with pytest.raises(CrosspatchError, match="memory does not hold one patch of one prompt"):
        list(run_in_batches(pair, prompts, RUN, 4))
    assert asked[-1] == 1


def test_another_error_is_not_swallowed(pair, prompts, monkeypatch):
    run, asked = limited(0, RuntimeError("shapes do not fit"))
    monkeypatch.setattr(batches, "run_cached", run)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(run_in_batches(pair, prompts, RUN, 4))
    assert len(asked) == 1


def test_the_budget_sets_the_rows(pair):
    def fitting(positions: int, memory_gb: float | None) -> int:
        return rows_at_once(text_config(pair.clean), torch.float32, pair.clean.device, positions, memory_gb)

    # Four layers, two key-value heads of 12, keys and values, four bytes, two models, for each position.
    row = 4 * 2 * 12 * 2 * 4 * 2 * 100
    assert fitting(100, 32.5 * row / 1e9) == 32
    assert fitting(100, 63.5 * row / 1e9) == 32
    assert fitting(100, 0.5 * row / 1e9) == 1
    assert fitting(100, 1000.0) == batches.MOST_ROWS
    # Left to itself it takes half of what is free.
    assert 1 <= fitting(100, None) <= batches.MOST_ROWS
    assert [prompts_at_once(patches, 32) for patches in (1, 5, 32, 33)] == [32, 6, 1, 1]
