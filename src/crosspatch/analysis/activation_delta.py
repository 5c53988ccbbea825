"""How far a child's activations lie from the clean model's along a text, and whether always in one direction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from crosspatch.analysis.shared_reading import SharedReading


def activation_rows(reading: SharedReading) -> Iterator[dict[str, Any]]:
    """For each site a row over all steps, and one over those at which the models disagree, if there are any.

    The columns of tables.ACTIVATIONS but for child and prompt.
    """
    chosen = {"all": torch.ones_like(reading.disagree), "disagree": reading.disagree}
    for site, here in reading.clean.items():
        there = reading.child[site].to(here.device)
        for at, steps in chosen.items():
            if steps.any():
                place = {"component": site.component, "layer": site.layer, "head": site.head, "at": at}
                yield {**place, "steps": int(steps.sum()), **_measured(here[steps], there[steps])}


def alignment(deltas: Float[Tensor, "U W"]) -> Float[Tensor, " N"]:
    """The cosine of each delta with the mean of the others; N deltas of the U have a direction to be compared.

    Of the others: a mean with the delta itself in it is like it whatever the rest is, and the more so the fewer they
    are. Independent directions have 0 on average.
    """
    others = (deltas.sum(0) - deltas) / max(1, len(deltas) - 1)
    told = (deltas.norm(dim=-1) > 0) & (others.norm(dim=-1) > 0)
    return cosine_similarity(deltas[told], others[told], dim=-1)


def _measured(here: Float[Tensor, "U W"], there: Float[Tensor, "U W"]) -> dict[str, float | None]:
    # On the CPU first: not every device knows float64.
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
