"""The published algorithm (paper, section 3.2.1), literal and slow: the oracle that other engines are held to.

Four full forward passes for each token of each layer, no cache. Only what the paper leaves open is added: the
repair direction, and the persistent form, in which all generated positions are patched at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from tqdm import tqdm

from crosspatch.models.blocks import Edit, editing, reading
from crosspatch.models.forward import last_logits
from crosspatch.models.pair import ModelPair
from crosspatch.patching.scores import score_step
from crosspatch.patching.sites import Patch
from crosspatch.patching.trajectory import PatchRun, Trajectory, extend


@torch.inference_mode()
def run_reference(pair: ModelPair, prompt: list[int], patches: list[Patch], run: PatchRun) -> list[Trajectory]:
    """Generate after `prompt` (token ids) under each patch alone, recomputing everything at every step."""
    target, source = pair.oriented(run.direction)
    stops = pair.stop_tokens
    trajectories = [Trajectory(patch, len(prompt)) for patch in patches]
    for trajectory in trajectories:
        for _ in tqdm(range(run.max_new_tokens), desc=f"reference {trajectory.patch.name}", leave=False):
            tokens = torch.tensor([prompt + trajectory.tokens], device=pair.clean.device)
            first = len(prompt) - 1 if run.persistence == "persistent" else tokens.shape[1] - 1
            patched = patched_logits(target, source, tokens, trajectory.patch, first)
            clean = last_logits(pair.clean, tokens)
            corrupted = last_logits(pair.corrupted, tokens)
            if not extend([trajectory], score_step(clean, corrupted, patched), stops):
                break
    return trajectories


def patched_logits(target: nn.Module, source: nn.Module, tokens: Tensor, patch: Patch, first: int) -> Tensor:
    """The target's logits [1, V] after `tokens` [1, T], with the source's activations from position `first` on."""
    layers = {site.layer for site in patch.sites}
    with reading(source, layers) as activations:
        last_logits(source, tokens)

    def replaced(layer: int) -> Edit:
        def edit(hidden: Tensor) -> Tensor:
            moved = activations[layer].to(hidden)
            return torch.cat([hidden[:, :first], moved[:, first:]], dim=1)

        return edit

    with editing(target, {layer: replaced(layer) for layer in layers}):
        return last_logits(target, tokens)
