"""Controls: something else moved to the same places at the same steps, in the contexts that the patch has written.

What a patch transfers says little by itself: a last layer transfers everything, and any push may tip a close call.
So in the cells where the models disagree other activations are moved in the place of the source's: the target's own
(an identity), the target's pushed as far in a random direction, the target's with another prompt's difference, or
those of another child. Contexts, tokens and denominators are the patch's own, so scores can be compared cell by cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crosspatch.analysis.given_text import Cell, GivenText, TextReader
from crosspatch.config import OwnControl
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch
from crosspatch.patching.rounds import CONTEXTS_AT_ONCE, UNEMBED_AT_ONCE
from crosspatch.patching.scores import Contexts, to_rows
from crosspatch.patching.trajectory import PatchRun, Trajectory

# Patched positions in one pass: enough to keep the processor busy, few enough that memory stays flat.
CELLS_AT_ONCE = 2048

# What a control moves, at each site a row for each of U steps.
Moved = Mapping[Site, Float[Tensor, "U W"]]


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


class OtherPrompt:
    """The text of another prompt as both models have read it: once, however many texts it is a control along."""

    @torch.inference_mode()
    def __init__(self, pair: ModelPair, given: GivenText, run: PatchRun) -> None:
        self._last = len(given.text) - 1
        self._target, self._source = (_reader(model, given, run) for model in pair.oriented(run.direction))

    @torch.inference_mode()
    def differences(self, steps: Sequence[int], sites: Sequence[Site]) -> Moved:
        """The source's activations less the target's at the same steps of this text, or at its last one."""
        same = [min(step, self._last) for step in steps]
        theirs, ours = (reader.activations(same, sites) for reader in (self._source, self._target))
        return {site: theirs[site].to(ours[site]) - ours[site] for site in sites}


class ControlReader:
    """What the models of a pair, and perhaps other children, say along one text; controls are scored from that.

    `other` is another prompt's text, for the control `other_prompt`.
    """

    @torch.inference_mode()
    def __init__(self, pair: ModelPair, followed: Followed, run: PatchRun, other: OtherPrompt | None = None) -> None:
        self._pair, self._followed, self._run, self._other = pair, followed, run, other
        # Nothing is asked of what comes after the last step that is looked at.
        given = followed.given
        self._given = GivenText(given.prompt, given.text[: max(followed.all_steps) + 1])
        self._target, self._source = (_reader(model, self._given, run) for model in pair.oriented(run.direction))
        self._here, self._there = (
            reader.activations(followed.all_steps, followed.sites) for reader in (self._target, self._source)
        )

    @torch.inference_mode()
    def moved(self, control: OwnControl | nn.Module, generator: torch.Generator | None = None) -> Moved:
        """What a control moves to every site at every step that is looked at.

        A model gives its own activations. `other_prompt` adds the other prompt's differences to the target's
        activations. `random` moves the target's activation as far as
        the source's lies, in directions drawn by a `generator` of the CPU, one for each site and step. Raises
        ValueError where generator or other text are missing.
        """
        steps, sites = self._followed.all_steps, self._followed.sites
        if isinstance(control, nn.Module):
            return _reader(control, self._given, self._run).activations(steps, sites)
        if control == "self":
            return self._here
        if control == "random":
            if generator is None:
                raise ValueError("got no generator for random directions, expected a torch.Generator of the CPU")
            return {site: self._here[site] + _turned(self._difference(site), generator) for site in sites}
        if self._other is None:
            raise ValueError("got no text of another prompt, expected one whose differences can be moved")
        differences = self._other.differences(steps, sites)
        return {site: self._here[site] + differences[site] for site in sites}

    @torch.inference_mode()
    def score(self, moves: Mapping[str, Moved]) -> list[tuple[str, Patch, int, dict[str, float]]]:
        """Control, patch, step and scores of every cell, for all controls by name."""
        place = {step: row for row, step in enumerate(self._followed.all_steps)}
        named = [
            (name, Cell(step, patch, {site: moved[site][place[step]] for site in patch.sites}))
            for name, moved in moves.items()
            for patch, steps in self._followed.steps.items()
            for step in steps
        ]
        # Cells of one step side by side: they are scored against what both models say there.
        named.sort(key=lambda cell: cell[1].step)
        found = []
        for start in range(0, len(named), CELLS_AT_ONCE):
            some = named[start : start + CELLS_AT_ONCE]
            hidden = self._target.patched([cell for _, cell in some])
            for i in range(0, len(some), UNEMBED_AT_ONCE):
                part = some[i : i + UNEMBED_AT_ONCE]
                counts = Counter(cell.step for _, cell in part)
                scores = self._contexts(list(counts)).score(
                    self._target.unembed(hidden[i : i + len(part)]), list(counts.values())
                )
                for (name, cell), row in zip(part, to_rows(scores), strict=True):
                    found.append((name, cell.patch, cell.step, {**row, "applied": 1.0}))
        return found

    def rows(self, moves: Mapping[str, Moved], prompt_id: str) -> Iterator[dict[str, Any]]:
        """The cells as rows of the controls table."""
        length = len(self._followed.given.prompt)
        for name, patch, step, scores in self.score(moves):
            row = Trajectory(patch, length).row(step, scores, prompt_id, self._run, self._pair.prompts)
            yield {"control": name, **row}

    def _contexts(self, steps: Sequence[int]) -> Contexts:
        parts = [steps[i : i + CONTEXTS_AT_ONCE] for i in range(0, len(steps), CONTEXTS_AT_ONCE)]
        logits = [
            torch.cat([reader.unembed(reader.hidden[list(part)]) for part in parts])
            for reader in (self._target, self._source)
        ]
        target, source = logits[0], logits[1].to(logits[0].device)
        return Contexts.of(target, source) if self._run.direction == "corrupt" else Contexts.of(source, target)

    def _difference(self, site: Site) -> Float[Tensor, "U W"]:
        return self._there[site].to(self._here[site]) - self._here[site]


def _reader(model: nn.Module, given: GivenText, run: PatchRun) -> TextReader:
    return TextReader(model, given, float32_unembedding=run.float32_unembedding)


def _turned(difference: Float[Tensor, "U W"], generator: torch.Generator) -> Float[Tensor, "U W"]:
    """Random directions, each as long as the difference was."""
    noise = torch.randn(difference.shape, generator=generator).to(difference)
    return noise / noise.norm(dim=-1, keepdim=True) * difference.norm(dim=-1, keepdim=True)
