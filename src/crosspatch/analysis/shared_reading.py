"""One text read by two models, in a plain pass each: what stands at places in both, and what they want next.

Nothing is patched, so this works on every model that has blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from crosspatch.analysis.given_text import GivenText, delta
from crosspatch.models.blocks import decoder
from crosspatch.models.hooks import reading
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site
from crosspatch.models.unembedding import unembed
from crosspatch.patching.rounds import UNEMBED_AT_ONCE


@dataclass(frozen=True, eq=False)
class SharedReading:
    """The clean model and a child along one text of S steps.

    Activations [S, W] by site, of heads as wide as these; `y_clean` and `y_corrupt` are the tokens that the two models
    want at each step, `gap` the child's ΔL less the clean model's, in logits.
    """

    clean: Mapping[Site, Float[Tensor, "S _"]]
    child: Mapping[Site, Float[Tensor, "S _"]]
    y_clean: Int[Tensor, " S"]
    y_corrupt: Int[Tensor, " S"]
    gap: Float[Tensor, " S"]

    @property
    def disagree(self) -> Bool[Tensor, " S"]:
        """The steps at which the models want different tokens."""
        return self.y_clean != self.y_corrupt

    def delta(self, site: Site) -> Float[Tensor, "S _"]:
        """The child's activation less the clean model's, in float32."""
        return self.child[site].to(self.clean[site].device).float() - self.clean[site].float()


@torch.inference_mode()
def read_together(clean: nn.Module, child: nn.Module, given: GivenText, sites: Sequence[Site]) -> SharedReading:
    """Let two models read a text. Raises UsageError for a site that one of them does not have."""
    (ours, of_clean), (theirs, of_child) = (_read(model, given, sites) for model in (clean, child))
    found: list[list[Tensor]] = [[], [], []]
    for one, other in zip(of_clean.split(UNEMBED_AT_ONCE), of_child.split(UNEMBED_AT_ONCE), strict=True):
        logits = unembed(clean, one), unembed(child, other).to(one.device)
        wants = logits[0].argmax(-1), logits[1].argmax(-1)
        for column, values in zip(found, (*wants, delta(logits[1], *wants) - delta(logits[0], *wants)), strict=True):
            # On the CPU: places of any layer, on whichever device, are chosen by them.
            column.append(values.cpu())
    return SharedReading(ours, theirs, *(torch.cat(column) for column in found))


def _read(
    model: nn.Module, given: GivenText, sites: Sequence[Site]
) -> tuple[dict[Site, Float[Tensor, "S _"]], Float[Tensor, "S D"]]:
    """What stands at the sites, and the last hidden states, at every step."""
    ids = torch.tensor([given.read], device=input_device(model))
    with reading(model, sites) as activations:
        hidden = decoder(model)(input_ids=ids, use_cache=False)[0]
    return {site: activations[site][0, given.first :] for site in sites}, hidden[0, given.first :]
