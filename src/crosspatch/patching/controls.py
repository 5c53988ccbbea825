"""Controls: something else moved to the same places at the same steps, in the contexts that the patch has written.

What a patch transfers says little by itself: a last layer transfers everything, and any push may tip a close call.
So in the cells where the models disagree other activations are moved in the place of the source's: the target's own
(an identity), the target's pushed as far in a random direction, the target's with another prompt's difference, or
those of another child. Contexts, tokens and denominators are the patch's own, so scores can be compared cell by cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crosspatch.config import OwnControl
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.given_text import GivenText, TextReader
from crosspatch.patching.patches import Patch
from crosspatch.patching.rounds import Moved, Row
from crosspatch.patching.scoring import score_rows
from crosspatch.patching.trajectory import PatchRun, Trajectory


@dataclass(frozen=True)
class Followed:
    """A text that some patches have written, and the steps of each that are looked at."""

    given: GivenText
    steps: Mapping[Patch, Sequence[int]]

    @property
    def all_steps(self) -> list[int]:
        """Every step that any patch wants."""
        return sorted({step for steps in self.steps.values() for step in steps})

    @property
    def sites(self) -> list[Site]:
        """Every place that any patch has."""
        return sorted({site for patch in self.steps for site in patch.sites})


def score_control(
    pair: ModelPair,
    followed: Followed,
    run: PatchRun,
    control: OwnControl | nn.Module,
    *,
    other: GivenText | None = None,
    generator: torch.Generator | None = None,
) -> list[Trajectory]:
    """The scores of a control along a text: a trajectory for each patch, of which only its steps were patched.

    A `control` that is a model gives its own activations in this text. `other_prompt` needs the text of an `other`
    prompt: the source's difference from the target at the same step there, or at its last one, is added to the
    target's activation. `random` needs a `generator`, of the CPU: it moves the target's activation as far as the
    source's lies, in a direction drawn for each site and step. Raises ValueError where these are missing, UsageError
    for persistent patches.
    """
    with torch.inference_mode():
        at = _activations(pair, followed, run, control, other, generator)
    place = {step: row for row, step in enumerate(followed.all_steps)}
    rows = [
        Row(patch, moved=Moved({step: place[step] for step in steps}, at)) for patch, steps in followed.steps.items()
    ]
    return score_rows(pair, followed.given.prompt, followed.given.text, rows, run)


def _activations(
    pair: ModelPair,
    followed: Followed,
    run: PatchRun,
    control: OwnControl | nn.Module,
    other: GivenText | None,
    generator: torch.Generator | None,
) -> Mapping[Site, Float[Tensor, "U W"]]:
    steps, sites = followed.all_steps, followed.sites

    def read(model: nn.Module, given: GivenText, at: Sequence[int]) -> dict[Site, Tensor]:
        return TextReader(model, given).activations(at, sites)

    if isinstance(control, nn.Module):
        return read(control, followed.given, steps)
    target, source = pair.oriented(run.direction)
    here = read(target, followed.given, steps)
    if control == "self":
        return here
    if control == "random":
        if generator is None:
            raise ValueError("got no generator for random directions, expected a torch.Generator of the CPU")
        there = read(source, followed.given, steps)
        return {site: here[site] + _turned(there[site].to(here[site]) - here[site], generator) for site in sites}
    if other is None:
        raise ValueError("got no text of another prompt, expected one whose differences can be moved")
    same = [min(step, len(other.text) - 1) for step in steps]
    from_target, from_source = read(target, other, same), read(source, other, same)
    return {site: here[site] + from_source[site].to(here[site]) - from_target[site] for site in sites}


def _turned(difference: Float[Tensor, "U W"], generator: torch.Generator) -> Float[Tensor, "U W"]:
    """Random directions, each as long as the difference was."""
    noise = torch.randn(difference.shape, generator=generator).to(difference)
    return noise / noise.norm(dim=-1, keepdim=True) * difference.norm(dim=-1, keepdim=True)
