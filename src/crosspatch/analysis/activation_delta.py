"""The activation delta of a child (child minus clean model) along one text, from one forward pass of each model.

Nothing is patched, so this works with every model that has blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.hooks import plain_pass
from crosspatch.models.site import Site
from crosspatch.patching.scores import predict


@dataclass(frozen=True, eq=False)
class SharedReading:
    """Activations and predictions of the clean model and a child along one text of S steps.

    `clean` and `child` have activations [S, W] by site. `y_clean` and `y_corrupt` are the two models' top-1 tokens at
    each step, `gap` is the child's ΔL minus the clean model's, in logits.
    """

    clean: Mapping[Site, Float[Tensor, "S _"]]
    child: Mapping[Site, Float[Tensor, "S _"]]
    y_clean: Int[Tensor, " S"]
    y_corrupt: Int[Tensor, " S"]
    gap: Float[Tensor, " S"]

    @property
    def disagree(self) -> Bool[Tensor, " S"]:
        """The steps at which the models' top-1 tokens differ."""
        return self.y_clean != self.y_corrupt

    def delta(self, site: Site) -> Float[Tensor, "S _"]:
        """Return the child's activation minus the clean model's, in float32."""
        return self.child[site].to(self.clean[site].device).float() - self.clean[site].float()


@torch.inference_mode()
def read_together(clean: nn.Module, child: nn.Module, given: ForcedText, sites: Sequence[Site]) -> SharedReading:
    """Read a text with two models. Raises UsageError for a site that one of the models does not have."""
    (of_clean, ours), (of_child, theirs) = (plain_pass(model, given.read, sites) for model in (clean, child))
    found = predict(clean, of_clean[given.first :], child, of_child[given.first :])
    # Move results to the CPU, so that they can index the activations of layers on any device.
    gap = (found.delta_source - found.delta_target).cpu()
    here, there = ({site: read[given.first :] for site, read in each.items()} for each in (ours, theirs))
    return SharedReading(here, there, found.y_target.cpu(), found.y_source.cpu(), gap)


def activation_rows(reading: SharedReading) -> Iterator[dict[str, Any]]:
    """Yield for each site a row over all steps, and a row over the steps at which the models disagree, if any.

    The columns are those of tables.ACTIVATIONS without child and prompt.
    """
    chosen = {"all": torch.ones_like(reading.disagree), "disagree": reading.disagree}
    for site, here in reading.clean.items():
        there = reading.child[site].to(here.device)
        for at, steps in chosen.items():
            if steps.any():
                where = {"component": site.component, "layer": site.layer, "head": site.head, "at": at}
                yield {**where, "steps": int(steps.sum()), **_measured(here[steps], there[steps])}


def alignment(deltas: Float[Tensor, "U W"]) -> Float[Tensor, " N"]:
    """Compute the cosine of each delta with the mean of the other deltas; only the N of U where both are not 0.

    The mean excludes the delta itself, since otherwise it would resemble the delta, especially if there are few. For
    independent directions the cosine is 0 on average.
    """
    others = (deltas.sum(0) - deltas) / max(1, len(deltas) - 1)
    defined = (deltas.norm(dim=-1) > 0) & (others.norm(dim=-1) > 0)
    return cosine_similarity(deltas[defined], others[defined], dim=-1)


def _measured(here: Float[Tensor, "U W"], there: Float[Tensor, "U W"]) -> dict[str, float | None]:
    # Move to the CPU first: not every device has float64.
    clean, child = here.cpu().double(), there.cpu().double()
    deltas = child - clean
    moved, size = deltas.norm(dim=-1), clean.norm(dim=-1)
    aligned = alignment(deltas)
    return {
        "delta_norm": float(moved.mean()),
        "clean_norm": float(size.mean()),
        "ratio": float((moved / size).mean()) if bool((size > 0).all()) else None,
        "cosine": float(cosine_similarity(clean, child, dim=-1).mean()),
        "alignment": float(aligned.mean()) if len(aligned) else None,
    }
