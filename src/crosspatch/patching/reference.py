"""The reference engine: the paper's algorithm (section 3.2.1) without optimisations, to compare the cached engine with.

It runs four full forward passes for each token of each patch, without a cache. It extends the paper by the other
components, the repair direction, schedules, and persistent patches, which also patch every earlier generated position
at which they were applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from crosspatch.models.hooks import editing, reading, replacing
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.unembedding import last_logits
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Contexts, Step, Steps
from crosspatch.patching.trajectory import PatchRun, Trajectory


@torch.inference_mode()
def run_reference(pair: ModelPair, prompt: list[int], patches: list[Patch], run: PatchRun) -> list[Trajectory]:
    """Generate from `prompt` (token ids) under each patch separately, recomputing the whole text at every step."""
    trajectories = [Trajectory(patch, len(prompt)) for patch in patches]
    for trajectory in trajectories:
        steps: list[Step] = []
        applied: list[int] = []
        for number in tqdm(range(run.max_new_tokens), desc=f"reference {trajectory.patch.name}", leave=False):
            tokens = prompt + [step.token for step in steps]
            found = step_scores(pair, tokens, trajectory.patch, run, number, applied)
            steps.append(found)
            if found.applied:
                applied.append(len(tokens) - 1)
            if found.token in pair.stop_tokens:
                trajectory.stop_reason = "eos"
                break
        trajectory.steps = Steps(steps)
    return trajectories


def step_scores(pair: ModelPair, tokens: list[int], patch: Patch, run: PatchRun, step: int, applied: list[int]) -> Step:
    """Score the step after `tokens`; `applied` are the earlier positions at which the patch was applied."""
    target, source = pair.target_and_source(run.direction)
    text = torch.tensor([tokens])
    of_target = _logits(target, text, run)
    of_source = _logits(source, text, run).to(of_target.device)
    now = patch.schedule.applies(step, int(of_target.argmax()), int(of_source.argmax()), pair.prompts.token_text)
    positions = (applied if run.persistence == "persistent" else []) + [len(tokens) - 1] * now
    patched = patched_logits(target, source, text, patch, positions, run)
    return _one(Contexts.of(of_target, of_source, run.direction).score(patched, [1], [now]))


def scores_of_patches(pair: ModelPair, tokens: list[int], patches: Sequence[Patch], run: PatchRun) -> Iterator[Step]:
    """Score each patch at the last of `tokens` alone, to the bit like `step_scores`; unpatched models run once."""
    target, source = pair.target_and_source(run.direction)
    text, last = torch.tensor([tokens]), [len(tokens) - 1]
    with reading(source, {site for patch in patches for site in patch.sites}) as activations:
        of_source = _logits(source, text, run)
    of_target = _logits(target, text, run)
    contexts = Contexts.of(of_target, of_source.to(of_target.device), run.direction)
    for patch in patches:
        patched = _replaced(target, activations, text, patch, last, run)
        yield _one(contexts.score(patched, [1], [True]))


def patched_logits(
    target: nn.Module, source: nn.Module, tokens: Tensor, patch: Patch, positions: list[int], run: PatchRun
) -> Tensor:
    """Return the target's logits [1, V] after `tokens` [1, T], with the source's activations patched at `positions`."""
    with reading(source, patch.sites) as activations:
        _logits(source, tokens, run)
    return _replaced(target, activations, tokens, patch, positions, run)


def _replaced(
    target: nn.Module,
    activations: Mapping[Site, Tensor],
    tokens: Tensor,
    patch: Patch,
    positions: list[int],
    run: PatchRun,
) -> Tensor:
    at = torch.tensor(positions, dtype=torch.long)
    with editing(target, {site: replacing(at, activations[site][0], at) for site in patch.sites}):
        return _logits(target, tokens, run)


def _one(scores: Tensor) -> Step:
    return Steps(scores.detach().cpu().numpy())[0]


def _logits(model: nn.Module, tokens: Tensor, run: PatchRun) -> Tensor:
    return last_logits(model, tokens, float32=run.float32_unembedding)
