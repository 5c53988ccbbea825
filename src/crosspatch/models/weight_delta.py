"""Measures how far fine-tuning moved each weight, and along how many directions.

Matrices are read one by one, a few thousand rows at a time, in float64, so large models fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn
from tqdm import tqdm

from crosspatch.errors import UsageError
from crosspatch.models.blocks import name_of_blocks
from crosspatch.models.weights import weights_of
from crosspatch.tables import WEIGHTS

# Rows of a matrix that are converted to float64 at once.
ROWS_AT_ONCE = 4096


@torch.no_grad()
def weight_delta(clean: nn.Module, child: nn.Module, name: str) -> pl.DataFrame:
    """Return a row for each weight of the child called `name` (see tables.WEIGHTS).

    Stacked matrices (experts) have a row each. With the delta's singular values s and p = s² / Σ s²:
    `effective_rank` is exp(−Σ p log p), the number of equally strong directions with the same entropy (Roy and Vetterli
    2007 use p = s / Σ s; squares ignore rounding noise), `stable_rank` is Σ s² / max s², `top_share` is max s / Σ s.
    Raises UsageError for models whose weights have other names or shapes.
    """
    ours, theirs = (
        {name: weight for name, weight in weights_of(model).items() if not weight.is_buffer} for model in (clean, child)
    )
    if foreign := sorted(ours.keys() ^ theirs.keys()):
        raise UsageError(f"only one of the models has the weight {foreign[0]}; give a base and its fine-tuned model")
    prefix = f"{name_of_blocks(clean)}."
    rows: list[dict[str, Any]] = []
    seen: set[tuple[int, int]] = set()
    for parameter in tqdm(ours, desc=f"weights of {name}", unit="weight", leave=False, disable=None):
        old, new = ours[parameter], theirs[parameter]
        if old.stored.shape != new.stored.shape:
            shapes = " and ".join("×".join(map(str, weight.stored.shape)) for weight in (old, new))
            raise UsageError(f"the weight {parameter} has the shapes {shapes}, expected the same in both models")
        # Tied in both models: this weight was already measured under another name.
        if (id(old.stored), id(new.stored)) in seen:
            continue
        seen.add((id(old.stored), id(new.stored)))
        layer, within = None, parameter
        if parameter.startswith(prefix):
            number, _, within = parameter.removeprefix(prefix).partition(".")
            layer = int(number)
        place = {"child": name, "parameter": parameter, "layer": layer}
        for suffix, *parts in _matrices(old.value(), new.value()):
            # `self_attn.q_proj` for `self_attn.q_proj.weight`; a bias keeps its full name.
            rows.append({**place, "name": within.removesuffix(".weight") + suffix, **_measured(*parts)})
    return WEIGHTS.frame(rows)


def _matrices(before: Tensor, after: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield a vector or matrix itself, or each matrix of a stack, with the suffix of its name."""
    if before.dim() > 2:
        # Kernels of depthwise convolutions have an axis of size 1.
        before, after = before.squeeze(), after.squeeze()
    if before.dim() <= 2:
        yield "", before, after
        return
    stacks = before.flatten(0, -3), after.flatten(0, -3)
    for i, (one, other) in enumerate(zip(*stacks, strict=True)):
        yield f".{i}", one, other


def _measured(before: Tensor, after: Tensor) -> dict[str, Any]:
    """Compute the norms of a weight and its delta, and the ranks of a matrix's delta."""
    shape = list(before.shape)
    if before.dim() < 2:
        before, after = before.reshape(-1, 1), after.reshape(-1, 1)
    if before.shape[0] < before.shape[1]:
        before, after = before.T, after.T
    gram = torch.zeros(before.shape[1], before.shape[1], dtype=torch.float64)
    squared = 0.0
    for one, other in zip(before.split(ROWS_AT_ONCE), after.split(ROWS_AT_ONCE), strict=True):
        old = _exact(one)
        moved = _exact(other).to(old.device) - old
        squared += float(old.square().sum())
        gram = gram.to(old.device).addmm_(moved.T, moved)
    clean_norm, delta_norm = squared**0.5, float(gram.trace()) ** 0.5
    return {
        "shape": shape,
        "clean_norm": clean_norm,
        "delta_norm": delta_norm,
        "ratio": delta_norm / clean_norm if clean_norm else None,
        **_ranks(gram if len(shape) == 2 and delta_norm else None),
    }


def _exact(weight: Tensor) -> Tensor:
    """Convert to float64, on the CPU if the device has no float64."""
    return (weight.cpu() if weight.device.type == "mps" else weight).double()


def _ranks(gram: Tensor | None) -> dict[str, float | None]:
    """Compute ranks from ΔᵀΔ, whose eigenvalues are the delta's squared singular values; None without a direction."""
    if gram is None:
        return dict.fromkeys(("effective_rank", "stable_rank", "top_share"))
    squares = torch.linalg.eigvalsh(gram)
    top = squares.max()
    # Smaller eigenvalues are rounding errors of the largest.
    squares = squares[squares > len(squares) * torch.finfo(squares.dtype).eps * top]
    shares, values = squares / squares.sum(), squares.sqrt()
    return {
        "effective_rank": float((-(shares * shares.log()).sum()).exp()),
        "stable_rank": float(squares.sum() / top),
        "top_share": float(values.max() / values.sum()),
    }
