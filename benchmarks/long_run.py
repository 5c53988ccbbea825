"""A long run: a million rows of scores opened, summed up and reported, and a sweep over 1,000 prompts.

Each step has a process of its own, so that its peak of memory is its own. The run is made up (`made_run.py`); the sweep
is over a tiny random pair, for what grows with the number of prompts is the same for any model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import polars as pl

from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, CONTROLS, GENERATIONS, HEALTH, SCORES
from made_run import CONTROL_NAMES, LAYERS, PROMPTS, STEPS, make_run

# Prompts after which the memory of a sweep is looked at.
LOOKS = (100, 250, 500, 750, 950)


def made(root: Path) -> str:
    """The run is written."""
    run = make_run(root)
    return f"{run.read(SCORES).height:,} rows of scores, {run.read(CONTROLS).height:,} of controls, {PROMPTS:,} prompts"


def opened(root: Path) -> str:
    """All scores and controls are read."""
    run = RunDirectory.existing(root)
    size = run.read(SCORES).estimated_size() + run.read(CONTROLS).estimated_size()
    return f"{size / 1e9:.2f} GB of tables"


def summed_up(root: Path) -> str:
    """The summary, with all intervals and tests."""
    from crosspatch.storage.summary import Summary

    run = RunDirectory.existing(root)
    summary = Summary.of_run(run)
    summary.write(run)
    known = sum(table["low"].is_not_null().sum() for table in (summary.depth, summary.tokens))
    return f"{known:,} intervals over prompts, {summary.tokens['p_value'].is_not_null().sum():,} permutation tests"


def reported(root: Path) -> str:
    """What `crosspatch report` does: the summary, all figures, report.md and report.html."""
    from crosspatch.experiment.page import write_run_report

    run = RunDirectory.existing(root)
    write_run_report(run)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in (run.report, run.markdown))
    return f"{sizes}, {len(list(run.figures.iterdir()))} files of figures"


def written(root: Path) -> str:
    """The page and report.md alone, as `crosspatch report --watch` makes them, but for the summary."""
    from crosspatch.report.markdown import write_markdown
    from crosspatch.report.page import write_report
    from crosspatch.storage.summary import Summary

    run = RunDirectory.existing(root)
    empty = Summary.of({})
    told = {"problems": run.asked(), "scores": run.read(SCORES), "summary": empty, "title": "a long run"}
    told |= {"generations": run.read(GENERATIONS), "behaviour": run.read(BEHAVIOUR)}
    write_markdown(run.markdown, n_layers=run.n_layers, **told)
    write_report(run.report, run=run.record(), health=run.read(HEALTH), texts=run.vocabulary(), **told)
    return "without figures"


STEPS_OF = {step.__name__: step for step in (made, opened, summed_up, written, reported)}
NAMES = {
    "made": f"a run of {LAYERS} layers × about {STEPS} steps × {PROMPTS:,} prompts, {len(CONTROL_NAMES)} controls",
    "opened": "… opened: scores and controls read",
    "summed_up": "… opened and summed up",
    "written": "… opened, page and report.md written",
    "reported": "… `crosspatch report`: all of that, and the figures",
}


def alone(name: str, root: Path) -> dict[str, Any]:
    """What a step says, its seconds, those of the processor, and its peak of memory in GB, in a process of its own."""
    command = [sys.executable, __file__, "--step", name, "--run", str(root)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return told


def one(step: Callable[[Path], str], root: Path) -> dict[str, object]:
    """A step as `alone` reads it."""
    start = time.perf_counter()
    said = step(root)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"said": said, "seconds": time.perf_counter() - start, "busy": time.process_time(), "peak": peak}


def swept(folder: Path) -> Iterator[tuple[int, float]]:
    """Prompts that are done, and the memory that the sweep takes by then in GB."""
    import torch

    from crosspatch.models.tiny import tiny_model, tiny_tokenizer

    for name in ("clean", "corrupted"):
        model = tiny_model("qwen3")
        if name == "corrupted":
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        model.save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    lines = [json.dumps({"prompt_id": f"p{i:04d}", "question": f"Solve for x: {i}x = 7"}) for i in range(PROMPTS)]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "crosspatch", "patch", "--prompts", str(folder / "prompts.jsonl")]
    command += ["--clean", str(folder / "clean"), "--corrupted", str(folder / "corrupted")]
    command += ["--out", str(folder / "swept"), "--max-new-tokens", "8", "--set", "patch.memory_gb=0.01"]
    parts = folder / "swept" / "scores"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sweep:
        looks, done = list(LOOKS), {}
        while looks and sweep.poll() is None:
            new = [part for part in parts.glob("part-*.parquet") if part not in done]
            done |= {part: pl.read_parquet(part, columns=["prompt_id"])["prompt_id"].n_unique() for part in new}
            if (prompts := sum(done.values())) >= looks[0]:
                yield prompts, resident(sweep.pid)
                looks = [look for look in looks if look > prompts]
            time.sleep(0.2)
        # What follows the sweep (controls) is not looked at.
        sweep.terminate()


def resident(process: int) -> float:
    """GB of a process in memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e9


def measured(root: Path) -> Iterator[tuple[str, str]]:
    """Rows of the table of benchmarks."""
    for name, what in NAMES.items():
        told = alone(name, root)
        took = f"{told['seconds']:.1f} s ({told['busy']:.1f} s of the processors)"
        yield what, f"{took}, {told['peak']:.2f} GB at most: {told['said']}"
    with tempfile.TemporaryDirectory() as folder:
        found = ", ".join(f"{memory:.2f} GB after {done:,} prompts" for done, memory in swept(Path(folder)))
        yield "memory of a sweep over 1,000 prompts, a tiny random pair", found


def main() -> None:
    """Measure and print; or one step alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", choices=STEPS_OF)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(one(STEPS_OF[options.step], options.run)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for what, value in measured(options.run or Path(folder) / "run"):
            print(f"| {what} | {value} |", flush=True)


if __name__ == "__main__":
    main()
