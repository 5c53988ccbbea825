"""All measurements in one run, side by side, and the table of the benchmark page: `make bench`.

Two pairs, each trained first where it is not there: the demo's, with five epochs (what `experiments/findings.yaml`
makes of the taught SmolLM2-135M-Instruct), whose texts differ in few tokens, and the raw one (the untaught model, and
a child trained for three epochs on LaTeX solutions with headings), whose texts differ early and often.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from attribution import attribution
from crosspatch.config import PAPER_FORMS
from crosspatch.models.pair import ModelPair
from measure import (
    EndlessPair,
    arithmetic,
    counted_rounds,
    generate_both,
    half_precision,
    host_times,
    reference,
    scoring,
    sweep,
)
from peers import PEERS, ensure_environment, run_peer

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
MARKS = ("<!-- table -->", "<!-- end of table -->")
# How each pair is trained.
PAIRS = {
    "demo": ["controls=[]"],
    "raw": [
        "controls=[]",
        "models.clean=wheel:smollm2-135m-instruct",
        "data.held_out_from_teaching=false",
        "data.style=headed",
        "data.difficulty=medium",
        f"data.forms=[{','.join(PAPER_FORMS)}]",
        "finetune.learning_rate=1e-4",
        "finetune.epochs=3",
    ],
}
DOMAINS = ("related", "unrelated_math", "general")
# Lengths of texts: the demo's, the raw pair's, and the paper's.
DEMO, RAW, PAPER = 96, 200, 1024
MANY_PROMPTS = 20
# Layers for which the published algorithm is timed, and layers and tokens for which the other libraries are.
REFERENCE_LAYERS = (12, 24)
PEER_LAYERS, PEER_LENGTH = (6, 18), 30

Rows = list[tuple[str, str]]


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"), help="directory with the runs of both pairs")
    parser.add_argument("--peers", type=Path, default=Path("runs/peers"), help="environment of the other libraries")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=[*PARTS, *SLOW], help="parts to measure")
    parser.add_argument("--many", action="store_true", help="only measure a sweep of many prompts, as JSON")
    options = parser.parse_args()
    folders = {name: pair_in(options.runs / name, settings) for name, settings in PAIRS.items()}
    if options.many:
        print(json.dumps(many_prompts(folders["demo"])))
        return
    rows: Rows = []
    start = time.perf_counter()
    for part in options.only:
        for what, value in (PARTS | SLOW)[part](options, folders):
            rows.append((what, value))
            print(f"{time.perf_counter() - start:5.0f} s | {what} | {value}", flush=True)
    if set(options.only) >= set(PARTS):
        rows.append(("this benchmark", f"{(time.perf_counter() - start) / 60:.0f} minutes, both pairs trained"))
        table = "\n".join(["| what | measured |", "| --- | --- |", *(f"| {what} | {value} |" for what, value in rows)])
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        PAGE.write_text(f"{before}{MARKS[0]}\n{machine()}\n\n{table}\n{MARKS[1]}{after}", encoding="utf-8")


def demo(options: argparse.Namespace, folders: dict[str, Path]) -> Rows:
    """The demo's pair: a prompt of each domain, and many prompts at once."""
    pair, asked = ModelPair.load(*models(folders["demo"])), questions(folders["demo"])
    layers, rows, generated, swept = range(pair.n_layers), Rows(), 0.0, 0.0
    generate_both(pair, pair.encode(asked[DOMAINS[0]][0]), 8)
    for domain in DOMAINS:
        prompt = pair.encode(asked[domain][0])
        before = generate_both(pair, prompt, DEMO)
        with counted_rounds() as rounds:
            done = sweep(pair, [prompt], layers, DEMO)
        both = (before.seconds + generate_both(pair, prompt, DEMO).seconds) / 2
        kept = sum(len(t.tokens) for t in done.trajectories)
        generated, swept = generated + both, swept + done.seconds
        rows.append(
            (
                f"demo's pair, 30 layers, {domain}: texts of {len(before.clean)} and {len(before.corrupted)} tokens",
                f"{done.seconds / both:.2f} times `generate` of both texts ({done.seconds:.1f} s for {both:.1f}); "
                f"{done.texts} texts, {len(rounds)} rounds with patched rows, {sum(rounds):,} cells for {kept:,}",
            )
        )
    rows.append(("… the three prompts", f"{swept / generated:.2f} times ({swept:.1f} s for {generated:.1f})"))
    first = [pair.encode(asked[domain][0]) for domain in DOMAINS]
    together = sweep(pair, first, layers, DEMO).seconds
    rows.append(("… the three in one sweep", f"{together / generated:.2f} times ({together:.1f} s)"))
    # In a process of its own, for its memory.
    command = [sys.executable, __file__, "--many", "--runs", str(options.runs)]
    many = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    per = f"{many['swept'] / MANY_PROMPTS:.1f} s a prompt for {many['generated'] / MANY_PROMPTS:.1f}"
    ratio = f"{many['swept'] / many['generated']:.2f} times ({per})"
    rows.append((f"demo's pair, 30 layers × {MANY_PROMPTS} prompts of all domains", ratio))
    above = f"{many['above']:.2f} GB above both models loaded and used ({many['peak']:.2f} GB in all)"
    return [*rows, ("… memory of that sweep", above)]


def raw(options: argparse.Namespace, folders: dict[str, Path]) -> Rows:
    """The raw pair: many disagreements, against the published algorithm and other libraries."""
    pair, asked = EndlessPair.load(*models(folders["raw"])), questions(folders["raw"])
    # A quadratic equation, whose solution is long.
    prompt = pair.encode(asked["quadratic"][0])
    before = generate_both(pair, prompt, RAW)
    with counted_rounds() as rounds:
        full = sweep(pair, [prompt], range(pair.n_layers), RAW)
    both = (before.seconds + generate_both(pair, prompt, RAW).seconds) / 2
    one = sweep(pair, [prompt], [18], RAW).seconds
    slow = reference(pair, prompt, [full.trajectories[layer] for layer in REFERENCE_LAYERS], (0, RAW // 2, RAW - 1))
    whole = slow.seconds_a_layer * pair.n_layers
    work = arithmetic(pair, prompt, full.trajectories, before)
    rows = [
        (
            f"raw pair, 30 layers, {asked['quadratic'][0]} ({len(prompt)} tokens of prompt, {RAW} written)",
            f"{full.seconds / both:.2f} times `generate` of both texts ({full.seconds:.1f} s for {both:.1f}); "
            f"{full.texts} texts, {len(rounds)} rounds with patched rows",
        ),
        ("… one layer (18)", f"{one / both:.2f} times"),
        (
            "… published algorithm",
            f"{whole:,.0f} s (of {slow.timed} timed steps), {whole / full.seconds:.0f} times crosspatch's time",
        ),
        ("… same tokens at the timed steps, and largest difference of a ΔL", f"{slow.same}, {slow.largest:.1e} logits"),
        (
            "… the published algorithm's multiplications over those that no exact method saves",
            f"{work.ratio:.0f} ({work.contexts:,} distinct contexts for {work.cells:,} cells)",
        ),
    ]
    return rows + against_peers(options, pair, folders["raw"], prompt, full.seconds)


def host(options: argparse.Namespace, folders: dict[str, Path]) -> Rows:
    """Host time."""
    return [
        (f"36 tiny blocks, 48 tokens, one thread: {found.rows} rows in {found.texts} texts", f"{found.ratio:.2f} times")
        for found in host_times()
    ]


def paper(options: argparse.Namespace, folders: dict[str, Path]) -> Rows:
    """The paper's length, without an early stop."""
    pair, asked = EndlessPair.load(*models(folders["demo"])), questions(folders["demo"])
    prompt = pair.encode(asked["related"][0])
    both = generate_both(pair, prompt, PAPER).seconds
    with counted_rounds() as rounds:
        full = sweep(pair, [prompt], range(pair.n_layers), PAPER)
    slow = reference(pair, prompt, [full.trajectories[REFERENCE_LAYERS[1]]], (0, PAPER - 1))
    whole = slow.seconds_a_layer * pair.n_layers
    return [
        (
            f"demo's pair, 30 layers, {PAPER:,} tokens without an early stop",
            f"{full.seconds / both:.2f} times `generate` of both texts ({full.seconds:.0f} s for {both:.0f}); "
            f"{full.texts} texts, {len(rounds)} rounds with patched rows",
        ),
        ("… published algorithm", f"{whole:,.0f} s (of 2 timed steps), {whole / full.seconds:.0f} times as much"),
    ]


def fixed_text(options: argparse.Namespace, folders: dict[str, Path]) -> Rows:
    """Scoring along a fixed text, and attribution patching."""
    pair, asked = EndlessPair.load(*models(folders["raw"])), questions(folders["raw"])
    prompt = pair.encode(asked["quadratic"][0])
    text = generate_both(pair, prompt, RAW).clean
    scored = scoring(pair, prompt, text)
    return [
        (
            "scoring the clean text at 30 layers (raw pair)",
            f"{scored.all_steps:.1f} plain forward passes ({scored.plain:.2f} s each)",
        ),
        (f"… at the {scored.disagreements} steps where the models disagree", f"{scored.disagreeing:.1f} plain passes"),
        *attribution(pair, prompt, text),
    ]


def half(options: argparse.Namespace, folders: dict[str, Path]) -> Rows:
    """How often bf16 and fp16 choose other tokens than float32."""
    pair, asked = EndlessPair.load(*models(folders["raw"])), questions(folders["raw"])
    prompt = pair.encode(asked["quadratic"][0])
    text, rows = generate_both(pair, prompt, RAW).clean, Rows()
    for dtype in ("bfloat16", "float16"):
        other = EndlessPair.load(*models(folders["raw"]), dtype=dtype)
        for float32 in (False, True):
            found = half_precision(pair, other, prompt, text, float32)
            head = ", unembedding in float32" if float32 else ""
            shares = f"{found.clean:.1%} clean, {found.corrupted:.1%} corrupted, {found.patched:.1%} patched"
            rows.append((f"{dtype}{head}: tokens that differ from float32", f"{shares} (of {found.cells} cells)"))
    return rows


PARTS: dict[str, Callable[[argparse.Namespace, dict[str, Path]], Rows]] = {
    "demo": demo,
    "raw": raw,
    "host": host,
    "paper": paper,
    "fixed_text": fixed_text,
}
# By `--only`.
SLOW = {"half": half}


def against_peers(
    options: argparse.Namespace, pair: EndlessPair, folder: Path, prompt: list[int], seconds: float
) -> Rows:
    """The full sweep by other libraries: a few layers and steps, as seconds a token and layer, times all of them."""
    python = ensure_environment(options.peers)
    clean, corrupted = models(folder)
    job = {
        "clean": clean,
        "corrupted": corrupted,
        "prompt": prompt,
        "layers": list(PEER_LAYERS),
        "new_tokens": PEER_LENGTH,
        "stop": [],
    }
    own = sweep(pair, [prompt], PEER_LAYERS, PEER_LENGTH)
    rows = []
    for name in PEERS:
        result = run_peer(name, job, python)
        each = statistics.mean(t["seconds"] / len(t["tokens"]) for t in result["trajectories"])
        same = all(
            theirs["tokens"] == ours.tokens
            for theirs, ours in zip(result["trajectories"], own.trajectories, strict=True)
        )
        total = each * RAW * pair.n_layers
        rows.append(
            (
                f"… {PEERS[name]} {result['versions'][PEERS[name]]}, one layer at a time with KV caches",
                f"{total:,.0f} s for the full sweep ({each * 1e3:.0f} ms a token and layer): "
                f"{total / seconds:.1f} times crosspatch's; {'same tokens' if same else 'OTHER TOKENS'}",
            )
        )
    return rows


def many_prompts(folder: Path) -> dict[str, float]:
    """A sweep of many prompts: seconds to generate both texts of each, seconds of the sweep, and its peak memory in GB.

    The peak is given in all, and above what both models take once they have run.
    """
    pair, asked = ModelPair.load(*models(folder)), questions(folder)
    mixed = mixed_prompts(pair, asked)
    # Weights are mapped from their files: they are in memory once they have been used.
    generated = sum(generate_both(pair, prompt, DEMO).seconds for prompt in mixed)
    before = resident("VmRSS")
    # From here on the peak is counted anew: loading has one of its own.
    Path("/proc/self/clear_refs").write_text("5")
    swept = sweep(pair, mixed, range(pair.n_layers), DEMO).seconds
    peak = resident("VmHWM")
    return {"generated": generated, "swept": swept, "above": peak - before, "peak": peak}


def resident(field: str) -> float:
    """GB of this process in memory: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e9


def pair_in(run: Path, settings: list[str]) -> Path:
    """The directory of a pair, which is trained where it is not there."""
    if not (run / "models" / "corrupted").exists():
        changes = [part for setting in settings for part in ("--set", setting)]
        subprocess.run(
            [sys.executable, "-m", "crosspatch", "finetune", "findings", "--out", str(run), *changes], check=True
        )
    return run


def models(run: Path) -> tuple[str, str]:
    """The folders of a run's clean and corrupted model."""
    return str((run / "models" / "clean").resolve()), str((run / "models" / "corrupted").resolve())


def questions(run: Path) -> dict[str, list[str]]:
    """Questions that were not trained on, by domain; related ones about quadratic equations also by themselves."""
    found: dict[str, list[str]] = {"quadratic": []}
    for domain in DOMAINS:
        lines = (run / "data" / f"{domain}.jsonl").read_text(encoding="utf-8").splitlines()
        problems = [json.loads(line) for line in lines]
        found[domain] = [problem["question"] for problem in problems]
        found["quadratic"] += [p["question"] for p in problems if p["family"].startswith("quadratic")]
    return found


def mixed_prompts(pair: ModelPair, asked: dict[str, list[str]]) -> list[list[int]]:
    """Many prompts, a question of each domain in turn."""
    return [pair.encode(asked[DOMAINS[i % len(DOMAINS)]][i // len(DOMAINS)]) for i in range(MANY_PROMPTS)]


def machine() -> str:
    """One line on what it was measured on."""
    name = platform.processor() or "CPU"
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    flags: Any = torch.backends.cpu.get_cpu_capability()
    return (
        f"Measured on {name}, {os.cpu_count()} cores ({flags}), torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads, float32, by `make bench`."
    )


if __name__ == "__main__":
    main()
