"""The cached engine: all patches of one prompt in lockstep, each step one token long.

Each patch is a row with a trajectory of its own. At every step three passes of equal shape run over all rows:
the source (its activations are kept), the target with the rows' activations replaced, the target unpatched.
Equal shapes are what makes a patch with the target's own activations an identity to the last bit.

Transient: the patched pass reads the unpatched target's keys and values and its own are thrown away, so later
tokens read clean ones (paper, section 3.2.1, where every step recomputes everything). Persistent: the patched
pass has a cache of its own and keeps it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from crosspatch.models.blocks import Edit, editing, reading, text_config
from crosspatch.models.forward import fork, last_logits, new_cache
from crosspatch.models.pair import ModelPair
from crosspatch.patching.scores import score_step
from crosspatch.patching.sites import Patch
from crosspatch.patching.trajectory import PatchRun, Trajectory, extend


@torch.inference_mode()
def run_cached(pair: ModelPair, prompt: list[int], patches: list[Patch], run: PatchRun) -> list[Trajectory]:
    """Generate after `prompt` (token ids) under each patch alone; the same trajectories as the reference gives."""
    target, source = pair.oriented(run.direction)
    stops = pair.stop_tokens
    trajectories = [Trajectory(patch, len(prompt)) for patch in patches]
    read = torch.tensor([prompt], device=pair.clean.device)
    target_past, source_past = (_read_prompt(model, read[:, :-1], len(patches)) for model in (target, source))
    patched_past = fork(target_past) if run.persistence == "persistent" else None

    going = trajectories
    tokens = read[:, -1:].expand(len(patches), 1)
    for _ in tqdm(range(run.max_new_tokens), desc=f"{len(patches)} patches", unit="step", leave=False):
        layers = {site.layer for trajectory in going for site in trajectory.patch.sites}
        with reading(source, layers) as activations:
            source_logits = last_logits(source, tokens, source_past)
        with editing(target, {layer: _moved(layer, activations, going) for layer in layers}):
            past = fork(target_past) if patched_past is None else patched_past
            patched_logits = last_logits(target, tokens, past)
        target_logits = last_logits(target, tokens, target_past)

        clean, corrupted = (
            (target_logits, source_logits) if run.direction == "corrupt" else (source_logits, target_logits)
        )
        scores = score_step(clean, corrupted, patched_logits)
        rows = extend(going, scores, stops)
        if not rows:
            break
        tokens = scores.token[:, None]
        if len(rows) < len(going):
            kept = torch.tensor(rows, device=tokens.device)
            tokens = tokens[kept]
            for cache in (target_past, source_past, patched_past):
                if cache is not None:
                    cache.batch_select_indices(kept)
            going = [going[row] for row in rows]
    return trajectories


def _read_prompt(model: nn.Module, tokens: Tensor, rows: int) -> Any:
    """A cache in which every row has read the same `tokens` [1, T]; they are read once."""
    cache = new_cache(text_config(model))
    if tokens.numel():
        last_logits(model, tokens, cache)
        cache.batch_repeat_interleave(rows)
    return cache


def _moved(layer: int, activations: dict[int, Tensor], rows: list[Trajectory]) -> Edit:
    """The edit that gives the source's activations [B, 1, D] to the rows whose patch has this layer."""
    chosen = [any(site.layer == layer for site in row.patch.sites) for row in rows]

    def edit(hidden: Tensor) -> Tensor:
        mask = torch.tensor(chosen, device=hidden.device)[:, None, None]
        return torch.where(mask, activations[layer].to(hidden), hidden)

    return edit
