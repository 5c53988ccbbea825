"""A given text, and models that read it: their predictions, activations and gradients.

The text is read once and leaves its keys and values. What is asked of single steps later is computed from these, with
those steps' positions apart, as a transient patch sees them: so memory grows with the steps asked for, and a
gradient at a position is that of its own step alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crosspatch.models.hooks import Edit, reading, remembering, replacing
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site
from crosspatch.models.unembedding import UNEMBED_AT_ONCE, unembed
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Predictions, delta, predict
from crosspatch.patching.trajectory import PatchRun
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Token
from crosspatch.patching.two_stream.passes import packed_pass

# At each site a row for each of U steps.
Activations = Mapping[Site, Float[Tensor, "U W"]]


@dataclass(frozen=True)
class ForcedText:
    """A text and the prompt before it, as token ids; each token of the text is a step."""

    prompt: Sequence[int]
    text: Sequence[int]

    @property
    def read(self) -> list[int]:
        """What a model reads that is to predict each token of the text."""
        return [*self.prompt, *self.text[:-1]]

    @property
    def first(self) -> int:
        """The position that predicts the text's first token."""
        return len(self.prompt) - 1


@dataclass(frozen=True)
class Cell:
    """A patch at one step of a text, and what it moves to each of its sites."""

    step: int
    patch: Patch
    moved: Mapping[Site, Float[Tensor, " W"]]


class TextReader:
    """One model, and what a given text has left in it; S steps, U of them asked for, W the width of a site.

    To be used without gradients, but not in inference mode: the past takes part in backward passes as a constant.
    """

    def __init__(self, model: nn.Module, given: ForcedText, *, float32_unembedding: bool = False) -> None:
        self.model, self.given = model, given
        self._float32 = float32_unembedding
        self._device = input_device(model)
        self._past = KeyValues(self._device, len(given.read), lanes=1)
        self._lane = self._past.open()
        tokens = [Token(id, position, self._lane) for position, id in enumerate(given.read)]
        hidden = packed_pass(model, Packing(tokens, self._device), self._past)
        self.hidden: Float[Tensor, "S D"] = hidden[given.first :]

    def unembed(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Logits of last hidden states."""
        return unembed(self.model, hidden, float32=self._float32)

    def activations(self, steps: Sequence[int], sites: Sequence[Site]) -> dict[Site, Float[Tensor, "U W"]]:
        """What stands at sites, at some steps."""
        with reading(self.model, sites) as activations:
            packed_pass(self.model, self._packing(steps), self._past)
        return {site: activation[0] for site, activation in activations.items()}

    def patched(self, cells: Sequence[Cell]) -> Float[Tensor, "C D"]:
        """The last hidden states of the model under transient patches, each cell by itself."""
        order = sorted(range(len(cells)), key=lambda i: cells[i].patch.entry)
        ordered = [cells[i] for i in order]
        read, first = self.given.read, self.given.first
        tokens = [
            Token(read[first + cell.step], first + cell.step, self._lane, cell.patch.entry, apart=True)
            for cell in ordered
        ]
        steps = sorted({cell.step for cell in cells})
        entries = {cell.patch.entry for cell in cells} - {0}
        streams = self.activations(steps, [Site(entry - 1) for entry in entries]) if entries else {}
        joins = {
            entry: (
                streams[Site(entry - 1)],
                torch.tensor([steps.index(c.step) for c in ordered if c.patch.entry == entry], device=self._device),
            )
            for entry in entries
        }
        packing = Packing(tokens, self._device)
        hidden = packed_pass(self.model, packing, self._past, joins, _moving(ordered, self._device))
        return hidden[torch.tensor(order, device=hidden.device).argsort()]

    def gradients(
        self,
        steps: Sequence[int],
        y_clean: Int[Tensor, " U"],
        y_corrupt: Int[Tensor, " U"],
        sites: Sequence[Site],
        streams: Mapping[Site, Float[Tensor, "U D"]] | None = None,
    ) -> list[Float[Tensor, "U W"]]:
        """The gradient of each step's ΔL by what stands at each site at its position, the past being held fixed.

        With `streams` (values of resid_post) it is taken there instead of at what the model computes: values are
        replaced, and gradients pass as if nothing had happened.
        """
        live: dict[Site, Tensor] = {}
        at = streams or {}
        edits = {site: remembering(live, site, at.get(site)) for site in {*sites, *at}}
        with torch.enable_grad():
            hidden = packed_pass(self.model, self._packing(steps), self._past, edits=edits)
        # The head by itself and a few positions at a time: logits of all of them need not be held.
        ys = (y.to(hidden.device) for y in (y_clean, y_corrupt))
        parts = (whole.split(UNEMBED_AT_ONCE) for whole in (hidden.detach(), *ys))
        of_hidden = [self._head_gradient(*part) for part in zip(*parts, strict=True)]
        read = [live[site] for site in sites]
        return [gradient[0] for gradient in torch.autograd.grad(hidden, read, torch.cat(of_hidden))]

    def _head_gradient(
        self, hidden: Float[Tensor, "N D"], y_clean: Int[Tensor, " N"], y_corrupt: Int[Tensor, " N"]
    ) -> Float[Tensor, "N D"]:
        with torch.enable_grad():
            wanted = hidden.clone().requires_grad_()
            total = delta(self.unembed(wanted), y_clean, y_corrupt).sum()
        return torch.autograd.grad(total, wanted)[0]

    def _packing(self, steps: Sequence[int]) -> Packing:
        """The positions of some steps, apart: each reads what the text has left before it, and itself."""
        read, first = self.given.read, self.given.first
        return Packing([Token(read[first + t], first + t, self._lane, apart=True) for t in steps], self._device)


class PairReader:
    """Target and source of a run along one text; S steps, U of them asked for, W the width of a site."""

    def __init__(self, pair: ModelPair, given: ForcedText, run: PatchRun) -> None:
        self.given, self._run = given, run
        self.target, self.source = (
            TextReader(model, given, float32_unembedding=run.float32_unembedding)
            for model in pair.target_and_source(run.direction)
        )

    def predictions(self) -> Predictions:
        """What both models predict at each step."""
        states = (self.target.model, self.target.hidden, self.source.model, self.source.hidden)
        return predict(*states, self._run.direction, float32=self._run.float32_unembedding)

    def activations(self, steps: Sequence[int], sites: Sequence[Site]) -> tuple[Activations, Activations]:
        """The target's activations and the source's, [U, W] each, at some steps."""
        return self.target.activations(steps, sites), self.source.activations(steps, sites)


def difference(target: Activations, source: Activations) -> Activations:
    """The source's activations less the target's."""
    return {site: source[site].to(here) - here for site, here in target.items()}


def _moving(cells: Sequence[Cell], device: torch.device) -> dict[Site, Edit]:
    """For each site the edit that moves each cell's activation there."""
    at: dict[Site, dict[int, Tensor]] = {}
    for i, cell in enumerate(cells):
        for site in cell.patch.sites:
            at.setdefault(site, {})[i] = cell.moved[site].to(device)
    return {
        site: replacing(torch.tensor(list(values)), torch.stack([*values.values()]), torch.arange(len(values)))
        for site, values in at.items()
    }
