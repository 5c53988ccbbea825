"""Teacher forcing: compute predictions, activations and gradients of models at some steps of a given text.

A model reads the text once, and its keys and values are cached. Later passes compute only some steps from this cache,
each independent of the others, as under a transient patch. So memory grows with the number of computed steps, and the
gradient at a position depends only on its own step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crosspatch.errors import UsageError
from crosspatch.models.hooks import Edit, editing, plain_pass, reading, remembering, replacing
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site
from crosspatch.models.unembedding import UNEMBED_AT_ONCE, unembed
from crosspatch.patching.any_cache import Past, in_rows
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Predictions, delta, predict
from crosspatch.patching.trajectory import PatchRun
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Token
from crosspatch.patching.two_stream.passes import Join, packed_pass, starting

# Maximum number of forks of a cache in one pass, which bounds memory.
FORKS_AT_ONCE = 64

# For each site, one row for each of U steps.
Activations = Mapping[Site, Float[Tensor, "U W"]]


@dataclass(frozen=True)
class ForcedText:
    """A prompt and a text after it, as token ids; each token of the text is a step."""

    prompt: Sequence[int]
    text: Sequence[int]

    @property
    def read(self) -> list[int]:
        """The tokens that a model reads to predict each token of the text."""
        return [*self.prompt, *self.text[:-1]]

    @property
    def first(self) -> int:
        """The position that predicts the text's first token."""
        return len(self.prompt) - 1


@dataclass(frozen=True)
class Cell:
    """A patch at one step of a text, and the activation that it sets at each of its sites."""

    step: int
    patch: Patch
    moved: Mapping[Site, Float[Tensor, " W"]]


class TextReader:
    """A model with the cached keys and values of a text; S steps, U of them computed, W the width of a site.

    Use this class in `torch.no_grad()`, but not in inference mode: backward passes use the cache as a constant.
    """

    # How many steps a backward pass takes; None: all.
    _at_once: int | None = None

    def __init__(self, model: nn.Module, given: ForcedText, *, float32_unembedding: bool = False) -> None:
        self.model, self.given = model, given
        self._float32 = float32_unembedding
        self._device = input_device(model)
        self._past = KeyValues(self._device, len(given.read), lanes=1)
        self._lane = self._past.open()
        hidden = packed_pass(model, Packing.of_text(given.read, self._lane, self._device), self._past)
        self.hidden: Float[Tensor, "S D"] = hidden[given.first :]

    def unembed(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Compute logits from last hidden states."""
        return unembed(self.model, hidden, float32=self._float32)

    def activations(self, steps: Sequence[int], sites: Sequence[Site]) -> dict[Site, Float[Tensor, "U W"]]:
        """Compute the activations of sites at some steps."""
        with reading(self.model, sites) as activations:
            self._pass(steps)
        return {site: activation[0] for site, activation in activations.items()}

    def patched(self, cells: Sequence[Cell]) -> Float[Tensor, "C D"]:
        """Compute the model's last hidden states under transient patches, for each cell separately."""
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
        joins: dict[int, Join] = {}
        for entry in entries:
            rows = [steps.index(cell.step) for cell in ordered if cell.patch.entry == entry]
            joins[entry] = starting(streams[Site(entry - 1)][rows])
        packing = Packing.of(tokens, self._device)
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
        """Compute the gradient of each step's ΔL with respect to each site's activation; the cache is constant.

        Gradients are taken at the model's own activations, or at the values of resid_post in `streams`, which replace
        the model's own values (straight-through: gradients pass unchanged).
        """
        of_steps = []
        for start in range(0, len(steps), self._at_once or len(steps)):
            some = slice(start, start + (self._at_once or len(steps)))
            live: dict[Site, Tensor] = {}
            at = {site: values[some] for site, values in (streams or {}).items()}
            edits = {site: remembering(live, site, at.get(site)) for site in {*sites, *at}}
            with torch.enable_grad():
                hidden = self._pass(steps[some], edits)
            # Differentiate the unembedding separately, a few positions at a time, so that few logits are in memory.
            ys = (y[some].to(hidden.device) for y in (y_clean, y_corrupt))
            parts = (whole.split(UNEMBED_AT_ONCE) for whole in (hidden.detach(), *ys))
            of_hidden = torch.cat([self._head_gradient(*part) for part in zip(*parts, strict=True)])
            of_steps.append(torch.autograd.grad(hidden, [live[site] for site in sites], of_hidden))
        return [torch.cat(of_site, dim=1)[0] for of_site in zip(*of_steps, strict=True)]

    def _head_gradient(
        self, hidden: Float[Tensor, "N D"], y_clean: Int[Tensor, " N"], y_corrupt: Int[Tensor, " N"]
    ) -> Float[Tensor, "N D"]:
        with torch.enable_grad():
            wanted = hidden.clone().requires_grad_()
            total = delta(self.unembed(wanted), y_clean, y_corrupt).sum()
        return torch.autograd.grad(total, wanted)[0]

    def _pass(self, steps: Sequence[int], edits: Mapping[Site, Edit] | None = None) -> Float[Tensor, "U D"]:
        """Compute the last hidden states at some steps, each from the text before it and its own token."""
        read, first = self.given.read, self.given.first
        tokens = [Token(read[first + t], first + t, self._lane, apart=True) for t in steps]
        return packed_pass(self.model, Packing.of(tokens, self._device), self._past, edits=edits)


class StepReader(TextReader):
    """A TextReader for models that only the any-cache engine can cache.

    Unpatched states are those of an uncached pass. Patched steps use forks of the model's own cache, which reads the
    text token by token.
    """

    _at_once = 1

    def __init__(self, model: nn.Module, given: ForcedText, *, float32_unembedding: bool = False) -> None:
        self.model, self.given, self._float32 = model, given, float32_unembedding
        self._cached, self._position = Past(model), 0
        self.hidden = plain_pass(model, given.read, ())[0][given.first :]

    def activations(self, steps: Sequence[int], sites: Sequence[Site]) -> dict[Site, Float[Tensor, "U W"]]:
        """Compute the activations of sites at some steps."""
        at = [self.given.first + step for step in steps]
        return {site: found[at] for site, found in plain_pass(self.model, self.given.read, sites)[1].items()}

    def patched(self, cells: Sequence[Cell]) -> Float[Tensor, "C D"]:
        """Compute the model's last hidden states under transient patches, for each cell separately."""
        at: dict[int, list[int]] = {}
        for i in sorted(range(len(cells)), key=lambda i: cells[i].step):
            at.setdefault(cells[i].step, []).append(i)
        hidden: dict[int, Tensor] = {}
        for step, all_here in at.items():
            for start in range(0, len(all_here), FORKS_AT_ONCE):
                here = all_here[start : start + FORKS_AT_ONCE]
                edits = _moving([cells[i] for i in here], self._cached.device)
                found = self._fork(step, len(here), {site: in_rows(edit) for site, edit in edits.items()})
                hidden |= zip(here, found, strict=True)
        return torch.stack([hidden[i] for i in range(len(cells))])

    def _pass(self, steps: Sequence[int], edits: Mapping[Site, Edit] | None = None) -> Float[Tensor, "1 D"]:
        weights = {weight.untyped_storage().data_ptr() for weight in self.model.parameters()}

        def kept(tensor: Tensor) -> Tensor:
            # A model overwrites the recurrent states of its cache, but the backward pass needs the old ones.
            return tensor if tensor.untyped_storage().data_ptr() in weights else tensor.detach().clone()

        with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
            return self._fork(steps[0], 1, edits or {})

    def _fork(self, step: int, rows: int, edits: Mapping[Site, Edit]) -> Float[Tensor, "B D"]:
        """Compute the last hidden states at a step, each row with a copy of the cache of all tokens before it."""
        ids, end = torch.tensor([self.given.read]), self.given.first + step
        if self._position > end:
            self._cached, self._position = Past(self.model), 0
        with torch.no_grad():
            while self._position < end:
                # The prompt in one pass, and then token by token, as in a generation.
                upto = self._position + 1 if self._position else max(self.given.first, 1)
                self._cached.read(ids[:, self._position : upto])
                self._position = upto
            forked = self._cached.fork(np.zeros(rows, dtype=np.int64))
        with editing(self.model, edits):
            return forked.read(ids[:, [end]].expand(rows, 1))[:, -1]


def text_reader(model: nn.Module, given: ForcedText, run: PatchRun) -> TextReader:
    """Return a reader of a text for the engine of a run. Raises UsageError for the reference engine."""
    if run.engine == "reference":
        raise UsageError(
            "scoring a given text needs a cached engine, but this pair runs in the reference engine; see docs/engine.md"
        )
    kind = StepReader if run.engine == "any_cache" else TextReader
    return kind(model, given, float32_unembedding=run.float32_unembedding)


class PairReader:
    """Target and source of a run with one text in their caches; U steps are computed, W is the width of a site."""

    def __init__(self, pair: ModelPair, given: ForcedText, run: PatchRun) -> None:
        self.given, self.n_layers, self._run = given, pair.n_layers, run
        self.target, self.source = (text_reader(model, given, run) for model in pair.target_and_source(run.direction))

    def predictions(self) -> Predictions:
        """Compute both models' predictions at each step."""
        states = (self.target.model, self.target.hidden, self.source.model, self.source.hidden)
        return predict(*states, self._run.direction, float32=self._run.float32_unembedding)

    def activations(self, steps: Sequence[int], sites: Sequence[Site]) -> tuple[Activations, Activations]:
        """Compute the target's and the source's activations, [U, W] each, at some steps."""
        return self.target.activations(steps, sites), self.source.activations(steps, sites)


def difference(target: Activations, source: Activations) -> Activations:
    """Subtract the target's activations from the source's, at the sites of `source`."""
    return {site: there.to(target[site]) - target[site] for site, there in source.items()}


def _moving(cells: Sequence[Cell], device: torch.device) -> dict[Site, Edit]:
    """Return for each site the edit that sets its activation in the cells that patch this site."""
    at: dict[Site, dict[int, Tensor]] = {}
    for i, cell in enumerate(cells):
        for site in cell.patch.sites:
            at.setdefault(site, {})[i] = cell.moved[site].to(device)
    return {
        site: replacing(torch.tensor(list(values)), torch.stack([*values.values()]), torch.arange(len(values)))
        for site, values in at.items()
    }
