"""Steering: add a vector to the residual stream of a model at every position that generates a token.

Unlike a patch, a steering vector is the same at every position of a text. It is the mean activation difference over
other prompts: if it reproduces the child's behaviour, the fine-tune acts as one direction at that layer. The control is
a random vector of the same norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from crosspatch.models.chat import PromptFormat
from crosspatch.models.generation import Answer, continue_prompts
from crosspatch.models.hooks import Edit, editing
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch


@dataclass(frozen=True)
class Steering:
    """The layer whose resid_post is steered, and the factor (`strength`) by which the vector is multiplied."""

    layer: int
    strength: float

    @property
    def site(self) -> Site:
        """The steered site."""
        return Site(self.layer)

    @property
    def name(self) -> str:
        """The site and the strength, such as `L18.resid_post*2`."""
        return f"{self.site.name}*{self.strength:g}"

    @property
    def columns(self) -> dict[str, Any]:
        """The values for the columns `patch` to `strength` of tables.GENERATIONS."""
        return {**Patch((self.site,)).columns, "patch": self.name, "strength": self.strength}


def mean_without(deltas: Mapping[str, Float[Tensor, "_ D"]], left_out: str) -> Float[Tensor, " D"] | None:
    """Average the deltas over all steps of all prompts except one; None if the other prompts have no steps."""
    others = [steps for prompt, steps in deltas.items() if prompt != left_out and len(steps)]
    return torch.cat(others).mean(0) if others else None


def random_like(vectors: Float[Tensor, "*U D"], generator: torch.Generator) -> Float[Tensor, "*U D"]:
    """Return vectors with the same norms in random directions, drawn with a CPU generator."""
    noise = torch.randn(vectors.shape, generator=generator).to(vectors)
    return noise / noise.norm(dim=-1, keepdim=True) * vectors.norm(dim=-1, keepdim=True)


def steered_answers(
    model: Any,
    prompts: PromptFormat,
    encoded: Sequence[Sequence[int]],
    vectors: Float[Tensor, "B D"],
    steering: Steering,
    max_new_tokens: int,
    stops: frozenset[int],
) -> list[Answer]:
    """Generate from prompts (token ids) with a steered model in one batch; each prompt has its own vector.

    The vector is added at the last position of the prompt and at every generated position; later positions attend to
    the steered positions.
    """
    with editing(model, {steering.site: _adding(steering.strength * vectors)}):
        return continue_prompts(model, prompts, encoded, max_new_tokens, stops, together=True)


def _adding(vectors: Float[Tensor, "B D"]) -> Edit:
    def edit(stream: Tensor) -> Tensor:
        # Padding is on the left, so the last position always generates the next token.
        steered = stream[:, -1:] + vectors[:, None].to(stream)
        return torch.cat([stream[:, :-1], steered], dim=1)

    return edit
