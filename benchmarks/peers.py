"""The other libraries that the benchmark compares with, each run in a virtual environment of its own.

A peer is a script beside this file, `peer_NAME.py`, with a function `sweep` that is the paper's transient sweep as
a skilled user of that library would write it in one sitting: key-value caches, one layer after the other, each
with contexts of its own. This module holds what the peers share (the loop over layers and steps, the scores, the
clock, reading and writing JSON) and how they are started. It knows no tensor library, so that it can be imported in
every environment.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-peers.txt"
PEERS = {"transformer_lens": "transformer-lens", "nnsight": "nnsight"}
"""Each peer's name and that of its package."""

Sweep = Callable[[str, str, list[int], list[int], int, set[int]], list[dict[str, Any]]]
"""(clean folder, corrupted folder, prompt, layers, new tokens, stop tokens) -> a `Trajectory` of each layer."""
Logits = Any
"""A vector [V]; of what library is the peer's affair."""


class Pasts(NamedTuple):
    """The keys and values that the two unpatched models keep of one text."""

    clean: Any
    corrupted: Any


@dataclass
class Trajectory:
    """What the clean model generates while its output of one block is replaced, and the scores of each step.

    Deltas are logit(y_corrupt) − logit(y_clean) of the three model states, where y_clean and y_corrupt are the
    choices of the two unpatched models in the same context. `seconds` leaves out loading, and holds an equal share
    of reading the prompt, which is done once for all layers.
    """

    layer: int
    tokens: list[int] = field(default_factory=list)
    clean_tokens: list[int] = field(default_factory=list)
    corrupted_tokens: list[int] = field(default_factory=list)
    delta_clean: list[float] = field(default_factory=list)
    delta_corrupted: list[float] = field(default_factory=list)
    delta_patched: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def extend(self, clean: Logits, corrupted: Logits, patched: Logits) -> int:
        """Score one step by three vectors of logits [V]; returns the token that the patched model chose."""
        y_clean, y_corrupt, token = int(clean.argmax()), int(corrupted.argmax()), int(patched.argmax())
        self.tokens.append(token)
        self.clean_tokens.append(y_clean)
        self.corrupted_tokens.append(y_corrupt)
        self.delta_clean.append(float(clean[y_corrupt] - clean[y_clean]))
        self.delta_corrupted.append(float(corrupted[y_corrupt] - corrupted[y_clean]))
        self.delta_patched.append(float(patched[y_corrupt] - patched[y_clean]))
        return token


def sweep_layers(
    prompt: list[int],
    layers: list[int],
    new_tokens: int,
    stop: set[int],
    read: Callable[[list[int]], Pasts],
    step: Callable[[Pasts, int, int], tuple[Logits, Logits, Logits]],
) -> list[dict[str, Any]]:
    """Generate after `prompt` (token ids) under a patch of each layer alone; the trajectories as JSON knows them.

    `read` gives what both models keep of some tokens. `step` takes that, a layer and one more token; it returns the
    logits of the clean, the corrupted and the patched model, and adds the unpatched models' keys and values.
    """
    start = time.perf_counter()
    # The last token's output is patched, so that token belongs to the first step.
    prompt_pasts = read(prompt[:-1])
    reading = (time.perf_counter() - start) / len(layers)
    trajectories = []
    for layer in layers:
        start = time.perf_counter()
        trajectory, pasts, token = Trajectory(layer), copy.deepcopy(prompt_pasts), prompt[-1]
        for _ in range(new_tokens):
            token = trajectory.extend(*step(pasts, layer, token))
            if token in stop:
                break
        trajectory.seconds = time.perf_counter() - start + reading
        trajectories.append(asdict(trajectory))
    return trajectories


def ensure_environment(folder: Path) -> Path:
    """The Python of a virtual environment that holds the peers, made where it is missing or out of date."""
    # What is installed is written last, so an installation that broke off is begun again.
    installed, wanted = folder / "installed.txt", REQUIREMENTS.read_text(encoding="utf-8")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        # One call, so that no package can replace the pinned torch by another build.
        subprocess.run([str(python), "-m", "pip", "install", "-qq", "-r", str(REQUIREMENTS)], check=True)
        installed.write_text(wanted, encoding="utf-8")
    return python


def run_peer(name: str, job: dict[str, Any], python: Path | str) -> dict[str, Any]:
    """Run one peer on a job {clean, corrupted, prompt, layers, new_tokens, stop} and read what it wrote.

    The result is {peer, versions, trajectories}, a `Trajectory` of each layer as a dictionary. The peer computes
    with the threads that this process's environment variables ask for. Raises RuntimeError with the end of what it
    said where it fails.
    """
    if name not in PEERS:
        raise ValueError(f"there is no peer {name!r}; choose one of {', '.join(PEERS)}")
    # Models are folders; asking a hub about them would only cost time.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with tempfile.TemporaryDirectory() as folder:
        job_file, result_file = Path(folder) / "job.json", Path(folder) / "result.json"
        job_file.write_text(json.dumps({**job, "stop": sorted(job["stop"])}), encoding="utf-8")
        command = [str(python), str(HERE / f"peer_{name}.py"), str(job_file), str(result_file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the peer {name} failed:\n{done.stderr[-4000:]}")
        result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        return result


def main(name: str, sweep: Sweep, arguments: list[str] | None = None) -> None:
    """The command line of a peer's script: read a job, run it, write the result."""
    parser = argparse.ArgumentParser(description=f"The transient patching sweep with {PEERS[name]}.")
    parser.add_argument("job", type=Path, help="JSON: {clean, corrupted, prompt, layers, new_tokens, stop}")
    parser.add_argument("result", type=Path, help="JSON file to write")
    paths = parser.parse_args(arguments)
    job = json.loads(paths.job.read_text(encoding="utf-8"))
    trajectories = sweep(
        job["clean"], job["corrupted"], job["prompt"], job["layers"], job["new_tokens"], set(job["stop"])
    )
    versions = {package: version(package) for package in (PEERS[name], "torch", "transformers")}
    result = {"peer": name, "versions": versions, "trajectories": trajectories}
    paths.result.write_text(json.dumps(result), encoding="utf-8")
