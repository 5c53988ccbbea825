"""The first step at which the models predict different tokens, and how much of that the state and later layers cause.

Up to that step both write the same text, so it is the one place where each can be compared on what it wrote itself.
Cut the models behind a layer: what has come up to there at this position is the state, what is above are the late
layers, which read their own model's past. Each can be the clean or the corrupted model's, which makes four ΔLs:

| ΔL | clean later layers | corrupted later layers |
| --- | --- | --- |
| clean state | `delta_clean`, the clean model | `delta_corrupted_layers`, a transient patch that repairs |
| corrupted state | `delta_corrupted_state`, a transient patch that corrupts | `delta_corrupted`, the corrupted model |

Of a 2 × 2 like this the effects of both factors add up to the gap, state_effect + layers_effect = delta_corrupted −
delta_clean, and the interaction says how far either's effect depends on the other: 0 where they merely add.
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
    """The four ΔLs of one layer, in logits, and what they say; see the table above."""

    delta_clean: float
    delta_corrupted: float
    delta_corrupted_state: float
    delta_corrupted_layers: float

    @property
    def state_effect(self) -> float:
        """What the corrupted state does in place of the clean one, mean over both later layers."""
        return (
            (self.delta_corrupted_state - self.delta_clean) + (self.delta_corrupted - self.delta_corrupted_layers)
        ) / 2

    @property
    def layers_effect(self) -> float:
        """What the corrupted later layers do in place of the clean ones, mean over both states."""
        return (
            (self.delta_corrupted_layers - self.delta_clean) + (self.delta_corrupted - self.delta_corrupted_state)
        ) / 2

    @property
    def interaction(self) -> float:
        """How much more the corrupted state does to corrupted later layers than to clean ones."""
        return self.delta_corrupted - self.delta_corrupted_state - self.delta_corrupted_layers + self.delta_clean


@torch.inference_mode()
def first_divergence(
    pair: ModelPair,
    prompt_id: str,
    given: ForcedText,
    layers: Sequence[int] | None = None,
    *,
    float32_unembedding: bool = False,
) -> pl.DataFrame:
    """The 2 × 2 of state and later layers at each of `layers` (None: all); no rows where the models agree throughout.

    `given` is the clean model's own text after the prompt. Raises UsageError for an empty text or a layer that is
    not there.
    """
    if not given.prompt or not given.text:
        raise UsageError("got an empty prompt or text, expected at least one token of each")
    cuts = numbered("layer", "all" if layers is None else layers, pair.n_layers)
    both = PairReader(pair, given, PatchRun(float32_unembedding=float32_unembedding))
    readers = both.target, both.source
    apart = both.predictions().disagree.nonzero()
    if not len(apart):
        return DIVERGENCES.frame()
    step = int(apart[0])
    own = [reader.unembed(reader.hidden[step : step + 1]) for reader in readers]
    found = Predictions.of(own[0], own[1].to(own[0].device))
    wants = int(found.y_target), int(found.y_source)
    ends = float(found.delta_target), float(found.delta_source)
    states = both.activations([step], [Site(layer) for layer in cuts])
    # Each model's later layers upon the other one's states.
    crossed = [
        _deltas(reader.unembed(reader.patched([_cell(step, layer, state) for layer in cuts])), found) if cuts else []
        for reader, state in zip(readers, reversed(states), strict=True)
    ]
    fixed = {
        "prompt_id": prompt_id,
        "step": step,
        "position": given.first + step,
        "clean_token_id": wants[0],
        "clean_token": pair.prompts.token_text(wants[0]),
        "corrupted_token_id": wants[1],
        "corrupted_token": pair.prompts.token_text(wants[1]),
    }
    squares = [TwoByTwo(*ends, *deltas) for deltas in zip(*crossed, strict=True)]
    rows = [
        {
            **fixed,
            "layer": layer,
            **vars(each),
            "state_effect": each.state_effect,
            "layers_effect": each.layers_effect,
            "interaction": each.interaction,
        }
        for layer, each in zip(cuts, squares, strict=True)
    ]
    return DIVERGENCES.frame(rows)


def _cell(step: int, layer: int, states: Activations) -> Cell:
    site = Site(layer)
    return Cell(step, Patch((site,)), {site: states[site][0]})


def _deltas(logits: Float[Tensor, "N V"], found: Predictions) -> list[float]:
    return delta(logits, *(y.to(logits.device).expand(len(logits)) for y in found.compared)).tolist()
