"""Which rows of attention's projections belong to which head, told from what each head reads: nothing is known by name.

Every projection's output is replaced by noise of which gradients are taken; a row belongs to the heads whose outputs
depend on it. So fused projections, in whatever order they hold queries, keys and values, and heads that share keys and
values are told alike. Where the rows do not fall to heads evenly nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from crosspatch.models.anatomy import BlockAnatomy, anatomy
from crosspatch.models.blocks import find_blocks
from crosspatch.models.watching import few_tokens

# Small, so that no attention weight rounds to 0 or 1, where gradients would be 0 too.
NOISE = 0.1


@dataclass(frozen=True, eq=False)
class HeadSlice:
    """The part of one weight that belongs to `heads`: the places `index` along `axis`.

    Several heads where they share it, as they do keys and values in grouped attention. A fused projection has for each
    head one slice with all that is the head's alone, and where heads share keys and values one for each group.
    """

    heads: tuple[int, ...]
    axis: int
    index: Tensor

    def of(self, weight: Tensor) -> Tensor:
        """The slice of a weight (of a bias, whose only axis is that of the rows)."""
        return weight.index_select(min(self.axis, weight.dim() - 1), self.index.to(weight.device))


def head_slices(model: nn.Module) -> list[dict[str, list[HeadSlice]]]:
    """For each block the slices of its parameters by their names in it; none where heads could not be told.

    Runs the model over five tokens. A head's number is that of its part of what the output projection reads, so in
    grouped attention keys and values have the numbers of the query heads that use them. Where keys or queries are
    normalized over all heads at once, which mixes these, the norm's scale is taken as given.
    """
    body = anatomy(model)
    traces = [_trace(block, parts) for block, parts in zip(find_blocks(model), body.blocks, strict=True)]
    generator = torch.Generator().manual_seed(0)
    handles = []
    try:
        for trace in traces:
            for module, hook, before in trace.hooks(generator):
                register = module.register_forward_pre_hook if before else module.register_forward_hook
                handles.append(register(hook))
        with torch.inference_mode(False), torch.enable_grad():
            model(input_ids=few_tokens(model), use_cache=False)
            return [trace.slices(body.n_heads, generator) for trace in traces]
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Trace:
    """One block's attention: its projections by name with what was put in place of their outputs, and the heads."""

    block: nn.Module
    out: str | None
    projections: dict[str, nn.Module]
    leaves: dict[str, list[Tensor]] = field(default_factory=dict)
    heads: list[Tensor] = field(default_factory=list)

    def hooks(self, generator: torch.Generator) -> Iterator[tuple[nn.Module, Callable[..., Any], bool]]:
        """Modules, what is hooked on them, and whether before they run."""
        if self.out is None:
            return
        for name, module in self.projections.items():
            yield module, _noise(self.leaves.setdefault(name, []), generator), False
        attention, _, _ = self.out.rpartition(".")
        for module in self.block.get_submodule(attention).modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor) and weight.dim() == 1:
                yield module, _fixed_scale, False
        yield self.block.get_submodule(self.out), lambda _, args: self.heads.append(args[0]), True

    def slices(self, n_heads: int, generator: torch.Generator) -> dict[str, list[HeadSlice]]:
        """The slices of this block's weights and biases, after the model has run."""
        if self.out is None or len(self.heads) != 1:
            return {}
        found = self._outward(self.block.get_submodule(self.out), n_heads)
        leaves = {name: put[0] for name, put in self.leaves.items() if len(put) == 1}
        read = self.heads[0].chunk(n_heads, dim=-1)
        owned: dict[str, list[Tensor]] = {name: [] for name in leaves}
        if leaves and self.heads[0].requires_grad:
            for head in read:
                towards = torch.randn(head.shape, generator=generator).to(head)
                gradients = torch.autograd.grad(
                    head, list(leaves.values()), towards, retain_graph=True, allow_unused=True
                )
                for name, gradient in zip(leaves, gradients, strict=True):
                    if gradient is not None:
                        owned[name].append(gradient.flatten(0, -2).ne(0).any(0).cpu())
        for name, of_heads in owned.items():
            if len(of_heads) == n_heads and (owners := _owners(torch.stack(of_heads))):
                axis = 0 if isinstance(self.projections[name], nn.Linear) else 1
                slices = [HeadSlice(heads, axis, torch.tensor(rows)) for heads, rows in owners.items()]
                found[f"{name}.weight"] = slices
                if getattr(self.projections[name], "bias", None) is not None:
                    found[f"{name}.bias"] = slices
        return found

    def _outward(self, module: nn.Module, n_heads: int) -> dict[str, list[HeadSlice]]:
        """The slices of the output projection: what each head is multiplied by."""
        if not _is_projection(module):
            return {}
        axis = 1 if isinstance(module, nn.Linear) else 0
        parts = torch.arange(self.heads[0].shape[-1]).chunk(n_heads)
        return {f"{self.out}.weight": [HeadSlice((head,), axis, part) for head, part in enumerate(parts)]}


def _trace(block: nn.Module, parts: BlockAnatomy) -> _Trace:
    if parts.heads is None:
        return _Trace(block, None, {})
    attention, _, _ = parts.heads.rpartition(".")
    inside = {f"{attention}.{name}": module for name, module in block.get_submodule(attention).named_modules() if name}
    projections = {name: m for name, m in inside.items() if name != parts.heads and _is_projection(m)}
    return _Trace(block, parts.heads, projections)


def _is_projection(module: nn.Module) -> bool:
    """Linear, or GPT-2's Conv1D, which keeps its weight the other way round: exactly these, whose axes are known."""
    from transformers.pytorch_utils import Conv1D

    return type(module) in (nn.Linear, Conv1D)


def _noise(put: list[Tensor], generator: torch.Generator) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: object, output: Tensor) -> Tensor:
        noise = NOISE * torch.randn(output.shape, generator=generator)
        put.append(noise.to(output).detach().requires_grad_())
        return put[-1]

    return hook


def _fixed_scale(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """A norm as the product with what it scaled by, a constant: each number then depends on itself alone."""
    read = args[0]
    return torch.where(read == 0, output, read * (output / read).detach())


def _owners(owned: Tensor) -> dict[tuple[int, ...], list[int]] | None:
    """From which head depends on which row, [H, rows], the rows of each set of heads; None where heads differ.

    Every row must be some head's, sets of one size must have equally many rows, and divide the heads among them.
    """
    if not owned.any(0).all():
        return None
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, heads in enumerate(owned.T):
        rows.setdefault(tuple(heads.nonzero().flatten().tolist()), []).append(row)
    for size in {len(heads) for heads in rows}:
        same = [heads for heads in rows if len(heads) == size]
        divided = sorted(head for heads in same for head in heads) == list(range(len(owned)))
        if not divided or len({len(rows[heads]) for heads in same}) > 1:
            return None
    return dict(sorted(rows.items()))
