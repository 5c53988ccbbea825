"""All measurements in one run, side by side, and the table of the benchmark page: `make bench`.

SmolLM2-135M-Instruct and the child that `experiments/smollm2.yaml` makes of it (trained first where it is not there).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from attribution import attribution
from measure import (
    EndlessPair,
    Texts,
    arithmetic,
    generate_both,
    half_precision,
    reference,
    scoring,
    sweep,
    sweep_after,
)
from peers import PEERS, ensure_environment, run_peer
from problems import problems_made

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
MARKS = ("<!-- table -->", "<!-- end of table -->")
LENGTH = 200
# Steps at which the published algorithm is timed, and the layers for which it is.
REFERENCE_STEPS = (0, 66, 132, 199)
REFERENCE_LAYERS = (12, 24)
PEER_LAYERS, PEER_LENGTH = (6, 18), 30
MANY_PROMPTS, MANY_LENGTH = 20, 24


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/bench"), help="run directory with the pair")
    parser.add_argument("--peers", type=Path, default=Path("runs/peers"), help="environment of the other libraries")
    parser.add_argument("--skip", nargs="*", default=[], choices=["peers", "half", "attribution", "many"])
    parser.add_argument("--memory", action="store_true", help="only measure the memory of one sweep, as JSON")
    options = parser.parse_args()
    clean, corrupted = pair_in(options.run)
    if options.memory:
        print(json.dumps(memory(clean, corrupted, questions(options.run))))
        return
    rows = measured(options, clean, corrupted)
    table = "\n".join(["| what | measured |", "| --- | --- |", *(f"| {what} | {value} |" for what, value in rows)])
    print(table)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}\n{machine()}\n\n{table}\n{MARKS[1]}{after}", encoding="utf-8")


def measured(options: argparse.Namespace, clean: Path, corrupted: Path) -> list[tuple[str, str]]:
    """The rows of the table."""
    pair = EndlessPair.load(str(clean), str(corrupted))
    asked = questions(options.run)
    prompt = pair.encode(asked[0])
    texts = generate_both(pair, prompt, LENGTH)
    full = sweep(pair, [prompt], range(pair.n_layers), LENGTH)
    drafted = sweep_after(pair, prompt, texts, LENGTH)
    again = generate_both(pair, prompt, LENGTH)
    both = Texts(texts.clean, texts.corrupted, statistics.mean([texts.seconds, again.seconds]))
    one = sweep(pair, [prompt], [18], LENGTH)
    chosen = [full.trajectories[layer] for layer in REFERENCE_LAYERS]
    slow = reference(pair, prompt, chosen, REFERENCE_STEPS)
    whole = slow.seconds_a_layer * pair.n_layers
    work = arithmetic(pair, prompt, full.trajectories, texts)
    rows = [
        ("question", f"{asked[0]} ({len(prompt)} tokens of prompt, {LENGTH} written)"),
        ("both unpatched texts by `generate`", f"{both.seconds:.1f} s"),
        ("published algorithm, 30 layers", f"{whole:,.0f} s (of {slow.timed} timed steps)"),
        ("crosspatch, 30 layers, unpatched texts written beside them", f"{full.seconds:.1f} s"),
        ("… times faster than the published algorithm", f"{whole / full.seconds:.0f}×"),
        (
            "… what its multiplications are to those that no exact method saves",
            f"{work.ratio:.0f}× ({work.contexts:,} distinct contexts for {work.cells:,} cells)",
        ),
        ("… against `generate`", f"{full.seconds / both.seconds:.2f} times its time"),
        ("crosspatch, 30 layers, unpatched texts known", f"{drafted:.1f} s, {whole / drafted:.0f}× faster"),
        ("crosspatch, one layer (18)", f"{one.seconds:.1f} s, {one.seconds / both.seconds:.2f} times `generate`"),
        ("same tokens as the published algorithm at the timed steps", "yes" if slow.same else "NO"),
        ("largest difference of a ΔL there", f"{slow.largest:.1e} logits"),
    ]
    scored = scoring(pair, prompt, texts.clean)
    rows += [
        (
            "scoring the clean text at 30 layers",
            f"{scored.all_steps:.1f} plain forward passes ({scored.plain:.2f} s each)",
        ),
        (f"… at the {scored.disagreements} steps where the models disagree", f"{scored.disagreeing:.1f} plain passes"),
    ]
    if "attribution" not in options.skip:
        rows += attribution(pair, prompt, texts.clean)
    if "many" not in options.skip:
        prompts = [pair.encode(question) for question in asked[:MANY_PROMPTS]]
        alone = sweep(pair, prompts[:1], range(pair.n_layers), MANY_LENGTH).seconds
        many = sweep(pair, prompts, range(pair.n_layers), MANY_LENGTH).seconds / len(prompts)
        rows.append(
            (
                f"30 layers × {len(prompts)} prompts × {MANY_LENGTH} tokens, a prompt",
                f"{many:.1f} s, against {alone:.1f} s for one prompt by itself ({many / alone:.2f})",
            )
        )
    found = subprocess.run(
        [sys.executable, __file__, "--memory", "--run", str(options.run)], capture_output=True, text=True, check=True
    )
    used = json.loads(found.stdout.splitlines()[-1])
    rows.append(
        (
            "memory of that sweep, above both models loaded and used",
            f"{used['above']:.2f} GB ({used['peak']:.2f} GB in all)",
        )
    )
    rows += problems_made()
    if "half" not in options.skip:
        rows += half_precisions(pair, clean, corrupted, prompt, texts)
    if "peers" not in options.skip:
        rows += against_peers(options, pair, prompt, full.seconds)
    return rows


def half_precisions(
    pair: EndlessPair, clean: Path, corrupted: Path, prompt: list[int], texts: Texts
) -> list[tuple[str, str]]:
    """How often bf16 and fp16 choose other tokens than float32."""
    rows = []
    for dtype in ("bfloat16", "float16"):
        half = EndlessPair.load(str(clean), str(corrupted), dtype=dtype)
        for float32 in (False, True):
            found = half_precision(pair, half, prompt, texts.clean, float32)
            head = ", unembedding in float32" if float32 else ""
            shares = f"{found.clean:.1%} clean, {found.corrupted:.1%} corrupted, {found.patched:.1%} patched"
            rows.append((f"{dtype}{head}: tokens that differ from float32", f"{shares} (of {found.cells} cells)"))
    return rows


def against_peers(
    options: argparse.Namespace, pair: EndlessPair, prompt: list[int], seconds: float
) -> list[tuple[str, str]]:
    """The full sweep by other libraries: a few layers and steps, as seconds a token and layer, times all of them."""
    python = ensure_environment(options.peers)
    clean, corrupted = pair_in(options.run)
    job = {
        "clean": str(clean),
        "corrupted": str(corrupted),
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
        total = each * LENGTH * pair.n_layers
        rows.append(
            (
                f"{PEERS[name]} {result['versions'][PEERS[name]]}, one layer at a time with KV caches",
                f"{total:,.0f} s for the full sweep ({each * 1e3:.0f} ms a token and layer): "
                f"{total / seconds:.1f} times crosspatch's; {'same tokens' if same else 'OTHER TOKENS'}",
            )
        )
    return rows


def memory(clean: Path, corrupted: Path, asked: list[str]) -> dict[str, float]:
    """Peak memory of one sweep in GB: in all, and above what both models take once they have run."""
    pair = EndlessPair.load(str(clean), str(corrupted))
    prompt = pair.encode(asked[0])
    # Weights are mapped from their files: they are in memory once they have been used.
    generate_both(pair, prompt, 2)
    before = resident("VmRSS")
    # From here on the peak is counted anew: loading has one of its own.
    Path("/proc/self/clear_refs").write_text("5")
    sweep(pair, [prompt], range(pair.n_layers), LENGTH)
    return {"above": resident("VmHWM") - before, "peak": resident("VmHWM")}


def resident(field: str) -> float:
    """GB of this process in memory: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e9


def pair_in(run: Path) -> tuple[Path, Path]:
    """The two model folders of a run, which is made where it is not there."""
    if not (run / "models" / "corrupted").exists():
        command = [sys.executable, "-m", "crosspatch", "finetune", "smollm2", "--out", str(run)]
        subprocess.run(command, check=True)
    return tuple((run / "models" / name).resolve() for name in ("clean", "corrupted"))  # type: ignore[return-value]


def questions(run: Path) -> list[str]:
    """Questions of the trained kind that were not trained on; quadratic equations first, whose solutions are long."""
    files = [run / "data" / f"{split}.jsonl" for split in ("related", "validation")]
    made = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    long_first = sorted(made, key=lambda problem: not problem["family"].startswith("quadratic"))
    return [problem["question"] for problem in long_first]


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
