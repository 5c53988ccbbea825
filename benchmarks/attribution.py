"""What attribution patching costs, and how well it ranks."""

from __future__ import annotations

import statistics

import torch

from crosspatch.analysis.attribution import attribution_patching
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.pair import ModelPair
from crosspatch.patching.patches import Schedule, patch_grid
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from measure import plain_pass_seconds, timed

# All heads of all layers would take most of the benchmark's time.
HEAD_LAYERS = (8, 16, 24)
REPEATS = 3


def attribution(pair: ModelPair, prompt: list[int], text: list[int]) -> list[tuple[str, str]]:
    """Rows of the table; attribution patching and plain forward passes over prompt and text are timed in turns."""
    whole = torch.tensor([prompt + text], device=pair.clean.device)
    given, run = ForcedText(prompt, text), PatchRun()
    disagree = Schedule(disagree=True)
    places = ("resid_post", "resid_mid", "attn_out", "mlp_out")
    patches = patch_grid("all", pair.n_layers, places, schedule=disagree)
    patches += patch_grid(HEAD_LAYERS, pair.n_layers, ("head",), n_heads=pair.n_heads, schedule=disagree)
    exact = score_tokens(pair, prompt, text, patches, run)
    rows = []
    for ig_steps in (0, 1):
        plain, seconds = [], []
        for _ in range(REPEATS):
            plain += [plain_pass_seconds(pair, whole) for _ in range(3)]
            seconds.append(timed(lambda points=ig_steps: attribution_patching(pair, [given], run, ig_steps=points)))
        passes = statistics.median(seconds) / statistics.median(plain)
        found = attribution_patching(pair, [given], run, ig_steps=ig_steps).rank_correlation([exact])
        label = "at the target's activations" if not ig_steps else "half-way between the models' streams"
        rows.append(
            (f"attribution patching of all layers, components and heads, {label}", f"{passes:.1f} plain passes")
        )
        ranks = "; ".join(
            f"{row['component']} {row['cells']:.3f} ({row['n_cells']}), {row['sites']:.3f} ({row['n_sites']})"
            for row in found.iter_rows(named=True)
        )
        rows.append(("… its rank correlation with exact effects, over cells (how many) and over sites", ranks))
    return rows
