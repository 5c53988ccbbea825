"""Batches: as many rows as fit the memory budget run at once, and fewer after an out-of-memory error."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from crosspatch.errors import CrosspatchError
from crosspatch.models.blocks import text_config
from crosspatch.models.pair import ModelPair
from crosspatch.patching.any_cache import forks_at_once, run_any_cache
from crosspatch.patching.engine import run_cached
from crosspatch.patching.trajectory import PatchRun, Prompt, Written
from crosspatch.patching.two_stream.key_values import bytes_per_position

logger = logging.getLogger(__name__)

# The fraction of the free memory that is used by default.
SHARE = 0.5
# More rows at once would not be faster, and the first results would come later.
MOST_ROWS = 512


def free_memory(device: torch.device) -> int:
    """Return the free bytes on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return int(psutil.virtual_memory().available)


def rows_at_once(config: Any, dtype: torch.dtype, device: torch.device, positions: int, memory_gb: float | None) -> int:
    """Return how many rows of `positions` tokens fit in `memory_gb` (10⁹ bytes; None: half of the free memory).

    `config` is the models' (text) configuration, `dtype` their precision. The count assumes that no two rows share a
    text, so a run whose texts all differ stays within the budget. The count is a power of two, so that small changes
    of the free memory do not change the batch size, on which the last digits of sums depend.
    """
    budget = free_memory(device) * SHARE if memory_gb is None else memory_gb * 1e9
    row = 2 * positions * bytes_per_position(config, dtype.itemsize)
    fitting = max(1, min(MOST_ROWS, int(budget // row)))
    return 1 << (fitting.bit_length() - 1)


def prompts_at_once(prompts: int, patches: int, rows: int) -> int:
    """Return how many prompts with this many patches each run together, with at most `rows` rows in total.

    Batches are about equally large: the more texts are read in a pass, the less each costs.
    """
    fitting = max(1, rows // max(1, patches))
    return math.ceil(prompts / math.ceil(prompts / fitting))


def generate(pair: ModelPair, prompts: Sequence[Prompt], run: PatchRun) -> list[Written]:
    """Generate from all prompts at once with the cached engine of the run."""
    return (run_any_cache if run.engine == "any_cache" else run_cached)(pair, prompts, run)


def run_in_batches(pair: ModelPair, prompts: Sequence[Prompt], run: PatchRun, rows: int) -> Iterator[Written]:
    """Yield the result of `generate` for each prompt in order, with at most `rows` rows at once.

    The any-cache engine runs as many rows as fit into the memory that the keys and values of `rows` may need. An
    out-of-memory error halves the rows, with a warning. Raises CrosspatchError if not even one row fits.
    """
    start = 0
    if run.engine == "any_cache" and prompts:
        positions = max(len(prompt.ids) for prompt in prompts) + run.max_new_tokens
        size = bytes_per_position(text_config(pair.clean), pair.clean.dtype.itemsize)
        rows = min(rows, forks_at_once(pair.clean, 2 * rows * positions * size, positions))
    while start < len(prompts):
        at_once = prompts_at_once(len(prompts) - start, len(prompts[start].patches), rows)
        some = prompts[start : start + at_once]
        try:
            done = _run_some(pair, some, run, rows)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if rows == 1:
                raise CrosspatchError(
                    "one patch of one prompt does not fit in memory; lower generation.max_new_tokens or use a device "
                    "with more memory"
                ) from None
            rows = max(1, min(rows, sum(len(prompt.patches) for prompt in some)) // 2)
            logger.warning("out of memory; continuing with %d rows at once", rows)
            continue
        yield from done
        start += len(some)


def _run_some(pair: ModelPair, prompts: Sequence[Prompt], run: PatchRun, rows: int) -> list[Written]:
    """Run all prompts at once; if a single prompt has more patches than `rows`, run it in parts."""
    if len(prompts) > 1 or len(prompts[0].patches) <= rows:
        return generate(pair, prompts, run)
    prompt = prompts[0]
    whole = generate(pair, [replace(prompt, patches=prompt.patches[:rows])], run)[0]
    for start in range(rows, len(prompt.patches), rows):
        known = [*prompt.known, whole.target.tokens, whole.source.tokens]
        more = replace(prompt, patches=prompt.patches[start : start + rows], known=known, answers=False)
        whole.trajectories.extend(generate(pair, [more], run)[0].trajectories)
    return [whole]


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU's allocator raises a RuntimeError.
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)
