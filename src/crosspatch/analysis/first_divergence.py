"""The first step at which the models predict different tokens, and the effects of state and later layers on it.

Up to this step both models generate the same text, so only at this step are both compared on their own text. Split the
models after a layer: the residual stream at this position is the state, and the blocks above the layer are the later
layers, which attend to their own model's keys and values. State and later layers can each be the clean or the corrupted
model's, which gives four ΔLs:

| ΔL | clean later layers | corrupted later layers |
| --- | --- | --- |
| clean state | `delta_clean`, the clean model | `delta_corrupted_layers`, a transient patch that repairs |
| corrupted state | `delta_corrupted_state`, a transient patch that corrupts | `delta_corrupted`, the corrupted model |

The two effects add up to the gap: state_effect + layers_effect = delta_corrupted − delta_clean. The interaction is how
much the effect of one factor depends on the other; it is 0 if the effects are additive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from crosspatch.analysis.teacher_forcing import Activations, Cell, ForcedText, PairReader
from crosspatch.errors import UsageError
from crosspatch.models.compatibility import numbered
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Predictions, delta
from crosspatch.patching.trajectory import PatchRun
from crosspatch.tables import DIVERGENCES


@dataclass(frozen=True)
class TwoByTwo:
    """The four ΔLs of one layer, in logits (see the table above), and the effects computed from them."""

    delta_clean: float
    delta_corrupted: float
    delta_corrupted_state: float
    delta_corrupted_layers: float

    @property
    def state_effect(self) -> float:
        """The effect of replacing the clean by the corrupted state, averaged over clean and corrupted later layers."""
        with_clean_layers = self.delta_corrupted_state - self.delta_clean
        return (with_clean_layers + (self.delta_corrupted - self.delta_corrupted_layers)) / 2

    @property
    def layers_effect(self) -> float:
        """The effect of replacing the clean by the corrupted later layers, averaged over clean and corrupted state."""
        with_clean_state = self.delta_corrupted_layers - self.delta_clean
        return (with_clean_state + (self.delta_corrupted - self.delta_corrupted_state)) / 2

    @property
    def interaction(self) -> float:
        """The state's effect with corrupted later layers minus its effect with clean later layers."""
        return self.delta_corrupted - self.delta_corrupted_state - self.delta_corrupted_layers + self.delta_clean


@torch.inference_mode()
def first_divergence(
    pair: ModelPair,
    prompt_id: str,
    given: ForcedText,
    layers: Sequence[int] | None = None,
    *,
    run: PatchRun | None = None,
) -> pl.DataFrame:
    """Measure the four ΔLs at each of `layers` (None: all); returns no rows if the models never disagree.

    `given` has the text that the clean model generates from the prompt; `run`, in the corrupt direction, has the
    engine. Raises UsageError for an empty text or a layer that the models do not have.
    """
    if not given.prompt or not given.text:
        raise UsageError("got an empty prompt or text, expected at least one token of each")
    cuts = numbered("layer", "all" if layers is None else layers, pair.n_layers)
    both = PairReader(pair, given, run or PatchRun())
    readers = both.target, both.source
    apart = both.predictions().disagree.nonzero()
    if not len(apart):
        return DIVERGENCES.frame()
    step = int(apart[0])
    own = [reader.unembed(reader.hidden[step : step + 1]) for reader in readers]
    found = Predictions.of(own[0], own[1].to(own[0].device))
    y_clean, y_corrupt = int(found.y_target), int(found.y_source)
    ends = float(found.delta_target), float(found.delta_source)
    states = both.activations([step], [Site(layer) for layer in cuts])
    # Patch each model's states into the other model.
    crossed = [
        _deltas(reader.unembed(reader.patched([_cell(step, layer, state) for layer in cuts])), found) if cuts else []
        for reader, state in zip(readers, reversed(states), strict=True)
    ]
    fixed = {
        "prompt_id": prompt_id,
        "step": step,
        "position": given.first + step,
        "clean_token_id": y_clean,
        "clean_token": pair.prompts.token_text(y_clean),
        "corrupted_token_id": y_corrupt,
        "corrupted_token": pair.prompts.token_text(y_corrupt),
    }
    rows = []
    for layer, deltas in zip(cuts, zip(*crossed, strict=True), strict=True):
        each = TwoByTwo(*ends, *deltas)
        effects = {name: getattr(each, name) for name in ("state_effect", "layers_effect", "interaction")}
        rows.append({**fixed, "layer": layer, **vars(each), **effects})
    return DIVERGENCES.frame(rows)


def _cell(step: int, layer: int, states: Activations) -> Cell:
    site = Site(layer)
    return Cell(step, Patch((site,)), {site: states[site][0]})


def _deltas(logits: Float[Tensor, "N V"], found: Predictions) -> list[float]:
    return delta(logits, *(y.to(logits.device).expand(len(logits)) for y in found.compared)).tolist()
