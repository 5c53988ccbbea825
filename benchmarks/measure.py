"""The measurements of the benchmark page, each in the words of the table that it fills.

All times of one run are taken one after the other in one process, so ratios hold on any machine, and absolute seconds
only on the one whose line stands in the table.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from tqdm import tqdm

from crosspatch.models.blocks import find_blocks, text_config
from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import ModelPair
from crosspatch.models.tiny import tiny_config, tiny_tokenizer
from crosspatch.patching.batches import rows_at_once, run_in_batches
from crosspatch.patching.patches import Patch, Schedule, patch_grid
from crosspatch.patching.reference import step_scores
from crosspatch.patching.rounds import Rounds
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun, Prompt, Trajectory
from tiny_architectures import child_of, random_model


class EndlessPair(ModelPair):
    """A pair whose texts end at their length alone."""

    stop_tokens = frozenset()  # type: ignore[assignment]


@dataclass(frozen=True)
class Texts:
    """The unpatched models' own texts and how long they took together, in seconds."""

    clean: list[int]
    corrupted: list[int]
    seconds: float


def generate_both(pair: ModelPair, prompt: list[int], length: int) -> Texts:
    """Both texts by `generate`, with its KV cache, one after the other."""
    ids = torch.tensor([prompt], device=pair.clean.device)
    texts, seconds = [], 0.0
    for model in (pair.clean, pair.corrupted):
        own = model.generation_config
        stops = sorted(pair.stop_tokens) or None
        model.generation_config = type(own)(max_new_tokens=length, do_sample=False, pad_token_id=0, eos_token_id=stops)
        start = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids))
        seconds += time.perf_counter() - start
        model.generation_config = own
        texts.append(out[0, len(prompt) :].tolist())
    return Texts(texts[0], texts[1], seconds)


@dataclass(frozen=True)
class Sweep:
    """The trajectories of a sweep, and its seconds."""

    trajectories: list[Trajectory]
    seconds: float

    @property
    def texts(self) -> int:
        """The number of distinct texts that patched rows wrote."""
        return len({tuple(trajectory.tokens) for trajectory in self.trajectories})


def sweep(
    pair: ModelPair, prompts: Sequence[list[int]], layers: Sequence[int], length: int, *, answers: bool = True
) -> Sweep:
    """Patch each layer alone after each prompt, by the cached engine; with `answers`, write the models' own texts."""
    patches = patch_grid(layers, pair.n_layers)
    run = PatchRun(max_new_tokens=length)
    start = time.perf_counter()
    jobs = [Prompt(prompt, patches, answers=answers) for prompt in prompts]
    positions = max(map(len, prompts)) + length
    rows = rows_at_once(text_config(pair.clean), pair.clean.dtype, pair.clean.device, positions, memory_gb=None)
    done = list(run_in_batches(pair, jobs, run, rows))
    return Sweep([t for written in done for t in written.trajectories], time.perf_counter() - start)


@contextmanager
def counted_rounds() -> Iterator[list[int]]:
    """Within the context, the numbers of patched positions of each pass that computes any are listed."""
    counts: list[int] = []
    read = Rounds.read

    def counting(self: Rounds, model: int, wanted: Any, cells: Any = None) -> Any:
        if cells is not None and len(cells.row):
            counts.append(len(cells.row))
        return read(self, model, wanted, cells)

    Rounds.read = counting  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        Rounds.read = read  # type: ignore[method-assign]


@dataclass(frozen=True)
class HostTime:
    """The time of a sweep of 36 tiny blocks over that of `generate`, and its number of distinct texts."""

    rows: int
    texts: int
    ratio: float


def host_times(length: int = 48, repeats: int = 5) -> list[HostTime]:
    """Sweeps of all of 36 blocks and of one, on one thread: multiplications take hardly any time."""
    config = tiny_config("qwen3")
    config.num_hidden_layers = 36
    config.layer_types = config.layer_types[:1] * 36
    clean = random_model(config)
    pair = EndlessPair(clean, child_of(clean, scale=0.5), PromptFormat(tiny_tokenizer(), raw=True))
    prompt = pair.encode("Solve for x: 5x + 3 = 18")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: dict[int, list[float]] = {36: [], 1: []}
    texts = {}
    for _ in range(repeats):
        both = generate_both(pair, prompt, length).seconds
        for rows, layers in ((36, range(36)), (1, [18])):
            done = sweep(pair, [prompt], layers, length, answers=False)
            texts[rows] = done.texts
            times[rows].append(done.seconds / both)
    torch.set_num_threads(threads)
    return [HostTime(rows, texts[rows], statistics.median(ratios)) for rows, ratios in times.items()]


@dataclass(frozen=True)
class ReferenceTime:
    """The published algorithm, timed at some steps and summed over all of them, for one layer.

    `largest` is the largest difference of a ΔL from the cached engine's at those steps, in logits; `same` says
    whether the tokens are.
    """

    seconds_a_layer: float
    timed: int
    largest: float
    same: bool


def reference(
    pair: ModelPair, prompt: list[int], trajectories: Sequence[Trajectory], at: Sequence[int]
) -> ReferenceTime:
    """Steps of the published algorithm along trajectories that the engine has found, and what they say of these."""
    run = PatchRun()
    seconds: list[tuple[int, float]] = []
    largest, same = 0.0, True
    for step in tqdm(at, desc="published algorithm", unit="step", leave=False):
        taken = []
        for trajectory in trajectories:
            tokens = prompt + trajectory.tokens[:step]
            start = time.perf_counter()
            with torch.inference_mode():
                found = step_scores(pair, tokens, trajectory.patch, run, step, [])
            taken.append(time.perf_counter() - start)
            fast = trajectory.steps[step]
            same &= (found.token, found.y_target, found.y_source) == (fast.token, fast.y_target, fast.y_source)
            largest = max(largest, *(abs(a - b) for a, b in zip(found.deltas, fast.deltas, strict=True)))
        seconds.append((step, statistics.mean(taken)))
    # Between the timed steps it grows evenly: trapezoids, one second a step.
    total = seconds[0][1]
    for (first, a), (last, b) in itertools.pairwise(seconds):
        total += (last - first) * (a + b) / 2
    return ReferenceTime(total, len(at) * len(trajectories), largest, same)


@dataclass(frozen=True)
class Arithmetic:
    """A sweep's distinct contexts and cells, and how many times its work the published algorithm does."""

    contexts: int
    cells: int
    ratio: float


def arithmetic(pair: ModelPair, prompt: list[int], trajectories: Sequence[Trajectory], texts: Texts) -> Arithmetic:
    """Multiplications by weights: the published algorithm's, over those that no exact method saves.

    These are each distinct context by both models, and each patched position in the blocks above its patch; attention
    is left out on both sides.
    """
    head = pair.clean.get_output_embeddings().weight.numel()  # type: ignore[operator, union-attr]
    body = sum(weight.numel() for block in find_blocks(pair.clean) for weight in block.parameters() if weight.dim() > 1)
    written = [*(t.tokens for t in trajectories), texts.clean, texts.corrupted]
    contexts = {tuple(tokens[:step]) for tokens in written for step in range(len(tokens))}
    published = needed = 0.0
    for trajectory in trajectories:
        above = 1 - trajectory.patch.entry / pair.n_layers
        for step in range(len(trajectory.tokens)):
            published += 4 * ((len(prompt) + step) * body + head)
            needed += above * body + head
    needed += 2 * (len(contexts) + len(prompt) - 1) * body + 2 * len(contexts) * head
    return Arithmetic(len(contexts), sum(len(t.tokens) for t in trajectories), published / needed)


@dataclass(frozen=True)
class Scoring:
    """Scoring along a fixed text, in plain forward passes over prompt and text (logits of all positions)."""

    plain: float
    all_steps: float
    disagreeing: float
    disagreements: int


def scoring(pair: ModelPair, prompt: list[int], text: list[int], repeats: int = 3) -> Scoring:
    """Medians of some repeats, taken in turns."""
    whole = torch.tensor([prompt + text], device=pair.clean.device)
    grid = patch_grid("all", pair.n_layers)
    disagree = [replace(patch, schedule=Schedule(disagree=True)) for patch in grid]
    run = PatchRun()
    plain, everywhere, some = [], [], []
    last: list[Trajectory] = []

    plain_pass_seconds(pair, whole)
    for _ in range(repeats):
        plain += [plain_pass_seconds(pair, whole) for _ in range(3)]
        everywhere.append(timed(lambda: score_tokens(pair, prompt, text, grid, run)))
        plain += [plain_pass_seconds(pair, whole) for _ in range(3)]
        start = time.perf_counter()
        last = score_tokens(pair, prompt, text, disagree, run)
        some.append(time.perf_counter() - start)
    one = statistics.median(plain)
    return Scoring(
        one,
        statistics.median(everywhere) / one,
        statistics.median(some) / one,
        sum(step.disagree for step in last[0].steps),
    )


def plain_pass_seconds(pair: ModelPair, tokens: torch.Tensor) -> float:
    """Seconds of one uncached pass of the clean model, logits of all positions."""
    with torch.inference_mode():
        return timed(lambda: pair.clean(tokens, use_cache=False))


@dataclass(frozen=True)
class HalfPrecision:
    """How often a half-precision pair's tokens differ from float32's in the same contexts, as shares."""

    clean: float
    corrupted: float
    patched: float
    cells: int


def half_precision(
    pair: ModelPair, half: ModelPair, prompt: list[int], text: list[int], float32: bool
) -> HalfPrecision:
    """Along one text at every third layer; `float32` for the unembedding in float32."""
    patches: list[Patch] = patch_grid(range(2, pair.n_layers, 3), pair.n_layers)
    whole = score_tokens(pair, prompt, text, patches, PatchRun())
    rough = score_tokens(half, prompt, text, patches, PatchRun(float32_unembedding=float32))

    def differ(name: str, count: int | None = None) -> float:
        pairs = [
            (getattr(a, name), getattr(b, name))
            for x, y in list(zip(whole, rough, strict=True))[:count]
            for a, b in zip(x.steps, y.steps, strict=True)
        ]
        return sum(a != b for a, b in pairs) / len(pairs)

    # What the unpatched models want is the same for every patch.
    cells = len(patches) * len(text)
    return HalfPrecision(differ("y_target", 1), differ("y_source", 1), differ("token"), cells)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
