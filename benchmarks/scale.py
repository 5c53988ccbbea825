"""What a large sweep takes: workers side by side on one sweep, and plans held against what was measured.

    python benchmarks/scale.py            # on a CPU: one and two workers, Ray; on a GPU: two shapes of models
    python benchmarks/scale.py --plans    # the plans of two large sweeps

The sweep is the taught SmolLM2 with its base's activations; on a GPU, models of Qwen3-4B's and SmolLM2's shapes with
random weights, which part soon, as the plan supposes. Nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from crosspatch.config import Experiment
from crosspatch.experiment.plan import plan
from crosspatch.models.loading import SMOLLM2
from crosspatch.models.pair import ModelPair
from crosspatch.settings_io import load_experiment, make_experiment
from crosspatch.tables import SCORES

LAYERS, NEW_TOKENS, ROWS = (6, 12, 18, 24, 27, 29), 32, 6
QUESTIONS = [f"Solve for x: {i + 2}x + {i + 3} = {(i + 2) * (i + 1) + i + 3}" for i in range(12)]
# On a GPU: prompts of so many tokens, and so many new ones.
GPU_PROMPT, GPU_TOKENS, GPU_PROMPTS = 64, 32, (1, 7)
GPU_SHAPES = ("Qwen/Qwen3-4B", SMOLLM2)
PLANS = {
    "Qwen3-4B, 36 layers, 1,000 prompts": "Qwen/Qwen3-4B",
    "Llama-3.3-70B, 80 layers, 1,000 prompts": "meta-llama/Llama-3.3-70B-Instruct",
}


def main() -> None:
    """Print everything as Markdown tables."""
    print(f"Measured on {_machine()}.\n")
    if "--plans" in sys.argv:
        for title, model in PLANS.items():
            print(f"\n{title}:\n")
            print(_plan_text(model))
    elif torch.cuda.is_available():
        _print_table("Sweeps on this GPU, against their plans", list(gpu_rows()))
    else:
        what = f"One sweep ({len(QUESTIONS)} prompts, {len(LAYERS)} layers, {NEW_TOKENS} tokens) by several"
        _print_table(what, list(executor_rows()))


def executor_rows() -> Iterator[dict[str, str]]:
    """A row for each executor: its seconds, against one worker's, and whether the same came of it."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        alone = 0.0
        before: dict[str, bytes] = {}
        for what, workers, options in (
            ("1 local worker, 1 thread", 1, ("threads=1",)),
            ("2 local workers, 1 thread each", 2, ("workers=2", "threads=1")),
            ("Ray, 2 actors, 1 thread each", 2, ("executor=ray", "workers=2")),
            ("1 local worker, 2 threads", 1, ("threads=2",)),
        ):
            run = root / what.replace(" ", "-")
            seconds = _sweep(run, options)
            shards = [json.loads(path.read_text()) for path in sorted(run.glob("shards/patch/0*[0-9].json"))]
            working = sum(shard["seconds"] for shard in shards) / workers
            found = {path.name: path.read_bytes() for path in sorted((run / "scores").iterdir())}
            alone, before = alone or working, before or found
            yield {
                "who": what,
                "the whole command": f"{seconds:.1f} s",
                f"its {len(shards)} shards": f"{working:.1f} s",
                "speed-up": f"{alone / working:.2f}",
                "scores": "the same bytes" if found == before else _difference(run, root / "1-local-worker,-1-thread"),
            }
            if what.startswith("1 local worker, 2"):
                row = _planned(_experiment(options)).patch
                yield {
                    "who": "… as planned",
                    "the whole command": "",
                    f"its {len(shards)} shards": f"{row.seconds:.1f} s",
                    "speed-up": "",
                    "scores": f"{row.memory:.1f} GB planned, {_peak_of_children():.1f} GB at its peak",
                }


def gpu_rows() -> Iterator[dict[str, str]]:
    """A row for each shape and number of rows that run together: seconds and memory, measured and planned."""
    from crosspatch.patching.engine import run_cached
    from crosspatch.patching.patches import patch_grid
    from crosspatch.patching.trajectory import PatchRun, Prompt

    for name in GPU_SHAPES:
        pair = _random_pair(name)
        patches = patch_grid("all", pair.n_layers)
        generator = torch.Generator().manual_seed(0)
        prompts = [
            Prompt(torch.randint(200, 40_000, (GPU_PROMPT,), generator=generator).tolist(), patches)
            for _ in range(max(GPU_PROMPTS))
        ]
        run_cached(pair, prompts[:1], PatchRun(max_new_tokens=4, small_denominator=0.25))
        for number in GPU_PROMPTS:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            written = run_cached(pair, prompts[:number], PatchRun(max_new_tokens=GPU_TOKENS, small_denominator=0.25))
            torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            texts = [trajectory.tokens for one in written for trajectory in one.trajectories]
            cells, row = sum(map(len, texts)), _planned(_gpu_experiment(name, number, len(patches))).patch
            yield {
                "shape": f"{name.split('/')[-1]}, {pair.n_layers} layers",
                "rows at once": f"{len(texts)}",
                "texts that differ": f"{len(set(map(tuple, texts)))}",
                "measured": f"{seconds:.2f} s, {cells / seconds:,.0f} cells a second",
                "planned for this machine": f"{row.seconds:.2f} s",
                "memory, measured": f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB",
                "planned": f"{row.memory:.1f} GB",
            }


def _random_pair(name: str) -> ModelPair:
    """Two models of a shape, of random weights in bfloat16, on the GPU."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from crosspatch.models.shapes import KNOWN
    from crosspatch.models.tiny import tiny_tokenizer

    config = AutoConfig.for_model(**KNOWN[name])
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        with torch.device("cuda"):
            models.append(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval())
    return ModelPair.of(*models, tiny_tokenizer())


def _gpu_experiment(name: str, prompts: int, patches: int) -> Experiment:
    settings = {
        "models": {"clean": name, "dtype": "bfloat16"},
        "data": {"related": 0, "unrelated_math": 0, "general": 0},
        # As many characters as the plan counts to tokens where it knows no tokenizer.
        "patch": {"questions": ["x" * round(2.4 * (GPU_PROMPT - 30))] * prompts, "shard_rows": prompts * patches},
        "generation": {"max_new_tokens": GPU_TOKENS},
    }
    return make_experiment(settings)


class _planned:
    """The rows of a plan by their stages."""

    def __init__(self, experiment: Experiment) -> None:
        self.patch, *_ = [row for row in plan(experiment).rows if row.stage == "patch"]


def _experiment(options: tuple[str, ...]) -> Experiment:
    return make_experiment(
        {"patch": {"questions": QUESTIONS}}, [part for part in _settings(options) if part != "--set"]
    )


def _settings(options: tuple[str, ...]) -> list[str]:
    settings = [
        "models.clean=taught:smollm2-135m-instruct",
        "models.corrupted=wheel:smollm2-135m-instruct",
        "models.device=cpu",
        "models.share_base=false",
        "data.related=0",
        "data.unrelated_math=0",
        "data.general=0",
        f"patch.layers={list(LAYERS)}",
        f"patch.shard_rows={ROWS}",
        "patch.controls=[]",
        f"generation.max_new_tokens={NEW_TOKENS}",
        *(f"execution.{option}" for option in options),
    ]
    return [part for setting in settings for part in ("--set", setting)]


def _sweep(run: Path, options: tuple[str, ...]) -> float:
    """Seconds of the command, which is a process of its own as a user's is."""
    pair = ("--clean", "taught:smollm2-135m-instruct", "--corrupted", "wheel:smollm2-135m-instruct")
    asked = [part for question in QUESTIONS for part in ("--prompt", question)]
    threads = next((option.split("=")[1] for option in options if option.startswith("threads")), "1")
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", "crosspatch", "patch", *pair, *asked, "--out", str(run), *_settings(options)]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return time.perf_counter() - start


def _difference(run: Path, other: Path) -> str:
    """How far scores are apart that are not the same bytes."""
    from crosspatch.storage.run import RunDirectory

    one, two = (RunDirectory.existing(root).read(SCORES) for root in (run, other))
    if not one["token_id"].equals(two["token_id"]):
        return "other tokens"
    return f"the same tokens, ΔLs within {(one['delta_patched'] - two['delta_patched']).abs().max():.0e}"


def _peak_of_children() -> float:
    """GB that the largest process took which has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9


def _plan_text(model: str) -> str:
    """What `crosspatch run --dry-run` prints for a large sweep."""
    crosspatch = shutil.which("crosspatch", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if crosspatch is None:
        sys.exit("crosspatch is not installed")
    settings = [f"models.clean={model}", "data.related=1000", "patch.related=1000", "patch.unrelated_math=0"]
    settings += ["patch.general=0", "patch.layers=all", "finetune.method=lora", "finetune.weights=bfloat16"]
    options = [part for setting in settings for part in ("--set", setting)]
    command = [crosspatch, "run", "paper", "--dry-run", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (
        f"    {' '.join(['crosspatch', *command[1:]])}\n\n{re.sub('^', '    ', done.stdout or done.stderr, flags=re.M)}"
    )


def _print_table(title: str, rows: list[dict[str, str]]) -> None:
    print(f"{title}:\n")
    print(f"| {' | '.join(rows[0])} |")
    print(f"| {' | '.join('---' for _ in rows[0])} |")
    for row in rows:
        print(f"| {' | '.join(row.values())} |")


def _machine() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


if __name__ == "__main__":
    load_experiment("tiny")  # fails early where the package is not whole
    main()
