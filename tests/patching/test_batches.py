"""How many rows run at once, and what happens when memory runs out."""

import pytest
import torch

from crosspatch.errors import CrosspatchError
from crosspatch.models.blocks import text_config
from crosspatch.patching import batches
from crosspatch.patching.any_cache import forks_at_once
from crosspatch.patching.batches import generate, prompts_at_once, rows_at_once, run_in_batches
from crosspatch.patching.engine import run_cached
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.trajectory import PatchRun, Prompt
from crosspatch.patching.two_stream.key_values import bytes_per_position
from engines import equal_written, fitting
from pairs import QUESTIONS, architecture_pair

RUN = PatchRun(max_new_tokens=6)


def case(name="qwen3"):
    """A pair and three prompts of four rows each."""
    pair = architecture_pair(name)
    return pair, [Prompt(pair.encode(question), patch_grid("all", 4), answers=True) for question in QUESTIONS]


@pytest.mark.parametrize(
    ("name", "persistence", "rows"),
    [
        *(("qwen3", "transient", 1), ("llama", "persistent", 1), ("gpt2", "transient", 3), ("qwen3", "persistent", 8)),
        ("lfm2", "transient", 3),
    ],
)
def test_batched_is_looped(name, persistence, rows):
    """With one row each patch of each prompt runs alone."""
    pair, prompts = case(name)
    run = fitting(PatchRun(persistence=persistence, max_new_tokens=6), pair)
    equal_written(generate(pair, prompts, run), list(run_in_batches(pair, prompts, run, rows)))


def limit(monkeypatch, most: int, error: Exception) -> list[int]:
    """Makes `run_cached` raise an error above a number of rows; returns the list of the rows that it gets."""
    asked: list[int] = []

    def run(pair, prompts, run):
        asked.append(sum(len(prompt.patches) for prompt in prompts))
        if asked[-1] > most:
            raise error
        return run_cached(pair, prompts, run)

    monkeypatch.setattr(batches, "run_cached", run)
    return asked


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_and_continues_with_a_warning(monkeypatch, caplog, error):
    pair, prompts = case()
    whole = run_cached(pair, prompts, RUN)
    asked = limit(monkeypatch, 3, error)
    equal_written(whole, list(run_in_batches(pair, prompts, RUN, 256)))
    # Three prompts of four rows; one of them; then two rows of each prompt at a time.
    assert asked == [12, 4, 2, 2, 2, 2, 2, 2]
    assert caplog.messages == [f"out of memory; continuing with {rows} rows at once" for rows in (6, 2)]


def test_what_halving_cannot_help_is_raised(monkeypatch):
    for error, raised, words, last in (
        (torch.OutOfMemoryError("CUDA out of memory"), CrosspatchError, "one patch of one prompt does not fit", 1),
        (RuntimeError("shapes do not fit"), RuntimeError, "shapes do not fit", 4),
    ):
        asked = limit(monkeypatch, 0, error)
        with pytest.raises(raised, match=words):
            list(run_in_batches(*case(), RUN, 4))
        assert asked[-1] == last


def test_the_budget_sets_the_rows():
    model = architecture_pair("qwen3").clean

    def fitting(memory_gb: float | None) -> int:
        return rows_at_once(text_config(model), torch.float32, model.device, 100, memory_gb)

    # Four layers, two key-value heads of 12, keys and values, four bytes, two models, for each position.
    row = 4 * 2 * 12 * 2 * 4 * 2 * 100 / 1e9
    assert [fitting(rows * row) for rows in (32.5, 63.5, 0.5)] == [32, 32, 1]
    assert fitting(1000.0) == batches.MOST_ROWS
    # The default is half of what is free.
    assert 1 <= fitting(None) <= batches.MOST_ROWS
    assert [prompts_at_once(40, patches, 32) for patches in (1, 5, 32, 33)] == [20, 6, 1, 1]
    assert prompts_at_once(20, 30, 512) == 10


def test_forks_of_a_cache_take_the_memory_that_is_measured():
    """Keys and values three times instead of twice, and beside them what a state-space layer keeps."""
    positions = 100
    for name, least, most in (("qwen3", 8, 8), ("falcon_h1", 1, 7)):
        model = architecture_pair(name).clean
        given = 2 * 12 * positions * bytes_per_position(model.config, model.dtype.itemsize)
        assert least <= forks_at_once(model, given, positions) <= most
