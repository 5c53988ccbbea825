"""Patch a site at every position of prompt and text at once, rather than at a single step.

A transient patch measures where the effect of a fine-tune reaches the current position; it misses what a module changes
at earlier positions. A patch at all positions measures the whole effect of a module: if only this module was
fine-tuned, it recovers everything, and sites below it recover nothing. Patching `resid_post` at all positions stitches
the models: the source's blocks up to this layer, and the target's blocks above it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crosspatch.analysis.teacher_forcing import ForcedText, difference
from crosspatch.models.blocks import decoder
from crosspatch.models.hooks import Edit, editing, plain_pass, remembering
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site
from crosspatch.models.unembedding import unembed
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Predictions, delta
from crosspatch.patching.trajectory import PatchRun

# Patched positions in one pass at most, but at least those of one patch, which bounds memory.
POSITIONS_AT_ONCE = 2048


class AllPositions:
    """Activations of target and source along a text, up to the last of U `steps`; N positions, D the model's width.

    Use this class in `torch.no_grad()`, but not in inference mode.
    """

    def __init__(
        self, pair: ModelPair, given: ForcedText, steps: Sequence[int], sites: Sequence[Site], run: PatchRun
    ) -> None:
        self._target, source = pair.target_and_source(run.direction)
        self._float32 = run.float32_unembedding
        self._ids = given.read[: given.first + max(steps) + 1]
        self._rows = [given.first + step for step in steps]
        self._device = input_device(self._target)
        hidden, self._here = plain_pass(self._target, self._ids, sites)
        other, self._there = plain_pass(source, self._ids, sites)
        logits = self._logits(self._target, hidden), self._logits(source, other).to(hidden.device)
        self._unpatched = Predictions.of(*logits, run.direction)

    def effects(self, patches: Sequence[Patch]) -> dict[str, float]:
        """Measure each patch separately, by its name: ΔL_patched − ΔL_target, summed over the steps."""
        found: dict[str, float] = {}
        size = max(1, POSITIONS_AT_ONCE // len(self._ids))
        for start in range(0, len(patches), size):
            some = patches[start : start + size]
            for patch, hidden in zip(some, self._patched(some), strict=True):
                found[patch.name] = float((self._deltas(hidden) - self._unpatched.delta_target).sum())
        return found

    def estimates(self, sites: Sequence[Site]) -> dict[Site, float]:
        """Estimate the effects of all sites in one backward pass: Σ over positions of gradient × (source − target)."""
        live: dict[Site, Tensor] = {}
        with torch.enable_grad(), editing(self._target, {site: remembering(live, site) for site in sites}):
            total = self._deltas(plain_pass(self._target, self._ids, ())[0]).sum()
        gradients = torch.autograd.grad(total, [live[site] for site in sites])
        effects = {}
        for site, gradient in zip(sites, gradients, strict=True):
            # One difference at a time, as those of all sites would be another whole set of activations.
            move = difference(self._here, {site: self._there[site]})[site]
            effects[site] = float((gradient[0].float() * move.float()).sum())
        return effects

    def _patched(self, patches: Sequence[Patch]) -> list[Float[Tensor, "N D"]]:
        """Return the patched target's last hidden states for each patch."""
        ids = torch.tensor([self._ids] * len(patches), device=self._device)
        edits = {}
        for site in {site for patch in patches for site in patch.sites}:
            rows = torch.tensor([i for i, patch in enumerate(patches) if site in patch.sites])
            edits[site] = _throughout(rows, self._there[site])
        with editing(self._target, edits):
            return list(decoder(self._target)(input_ids=ids, use_cache=False)[0])

    def _deltas(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, " U"]:
        return delta(self._logits(self._target, hidden), *self._unpatched.compared)

    def _logits(self, model: nn.Module, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "U V"]:
        return unembed(model, hidden[self._rows], float32=self._float32)


def _throughout(rows: Int[Tensor, " P"], values: Float[Tensor, "N W"]) -> Edit:
    """Return an edit that replaces the activations [B, N, W] of some rows at every position."""
    return lambda activation: activation.index_copy(
        0, rows.to(activation.device), values.to(activation).expand(len(rows), -1, -1)
    )
