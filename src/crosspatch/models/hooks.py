"""Reading and editing the activations of an unmodified model, at sites, while it runs.

Shapes: B rows, T positions, D model width, H heads, K head width. A site's activation is [B, T, D], of a head
[B, T, K]; a head's is its part of what the attention's output projection reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from crosspatch.models.anatomy import anatomy, check_sites
from crosspatch.models.blocks import decoder, find_blocks, hidden_into, hidden_of, with_hidden
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site

Edit = Callable[[Tensor], Tensor]
# What is done at a site: it gets the activation, and returns another one or None to leave it.
Visit = Callable[[Tensor], Tensor | None]


@contextmanager
def reading(model: nn.Module, sites: Iterable[Site]) -> Iterator[dict[Site, Tensor]]:
    """Within the context each forward pass leaves the sites' activations in the mapping.

    Raises UsageError for a site that the model does not have.
    """
    read: dict[Site, Tensor] = {}
    with _visiting(model, {site: _keeping(site, read) for site in sites}):
        yield read


def plain_pass(
    model: nn.Module, ids: Sequence[int], sites: Sequence[Site]
) -> tuple[Float[Tensor, "T D"], dict[Site, Float[Tensor, "T _"]]]:
    """The last hidden states of a text (token ids) read without a cache, and activations in the order of the sites.

    Raises UsageError for a site that the model does not have.
    """
    with reading(model, sites) as activations:
        hidden = decoder(model)(input_ids=torch.tensor([ids], device=input_device(model)), use_cache=False)[0]
    return hidden[0], {site: activations[site][0] for site in sites}


@contextmanager
def editing(model: nn.Module, edits: Mapping[Site, Edit]) -> Iterator[None]:
    """Within the context each site's activation is what its edit makes of it; all that comes later reads the result.

    An edit gets the activation and returns one of the same shape, leaving its argument as it is. Edits of one layer
    come in the order of computation: heads, attn_out, resid_mid, mlp_out, resid_post; each sees what those before it
    did, and contexts opened later see what earlier ones did. Raises UsageError for a site that the model does not have.
    """
    with _visiting(model, edits):
        yield


def replacing(positions: Int[Tensor, " P"], values: Float[Tensor, "N W"], rows: Int[Tensor, " P"]) -> Edit:
    """The edit that replaces the activation of one sequence [1, T, W] at some positions by some rows of `values`."""

    def edit(activation: Tensor) -> Tensor:
        chosen = values[rows.to(values.device)][None].to(activation)
        return activation.index_copy(1, positions.to(activation.device), chosen)

    return edit


def remembering(live: dict[Site, Tensor], site: Site, values: Float[Tensor, "T W"] | None = None) -> Edit:
    """The edit that keeps in `live` a tensor to take gradients by.

    It changes nothing, or the activation of one sequence to `values`; gradients pass as if it had not.
    """

    def edit(activation: Tensor) -> Tensor:
        # The first sites get none that wants gradients where no weight does.
        wanted = activation if activation.requires_grad else activation.detach().requires_grad_()
        # A tensor of its own: what later parts read, and not also what it was made from.
        live[site] = wanted.clone() if values is None else wanted + (values[None] - wanted).detach()
        return live[site]

    return edit


def _keeping(site: Site, read: dict[Site, Tensor]) -> Visit:
    def keep(activation: Tensor) -> None:
        read[site] = activation

    return keep


@contextmanager
def _visiting(model: nn.Module, visits: Mapping[Site, Visit]) -> Iterator[None]:
    check_sites(model, visits)
    with ExitStack() as stack:
        for layer in sorted({site.layer for site in visits}):
            here = {site: visit for site, visit in visits.items() if site.layer == layer}
            for handle in _register(model, layer, here):
                stack.callback(handle.remove)
        yield


def _register(model: nn.Module, layer: int, visits: Mapping[Site, Visit]) -> Iterator[RemovableHandle]:
    """Register in the order of computation: hooks on one module run in the order in which they came."""
    block = find_blocks(model)[layer]
    at: dict[str, Visit] = {site.component: visit for site, visit in visits.items() if site.head is None}
    heads = {site.head: visit for site, visit in visits.items() if site.head is not None}

    if heads or at.keys() != {"resid_post"}:
        body = anatomy(model)
        parts = body.blocks[layer]
        if heads and parts.heads is not None:
            hook = _at_heads(heads, body.n_heads)
            yield block.get_submodule(parts.heads).register_forward_pre_hook(hook)
        if "attn_out" in at and parts.attn_out is not None:
            yield block.get_submodule(parts.attn_out).register_forward_hook(_at_output(at["attn_out"]))
        if "resid_mid" in at and parts.attn_out is not None:
            enter, add = _at_mid(at["resid_mid"], body.scale)
            yield block.register_forward_pre_hook(enter, with_kwargs=True)
            yield block.get_submodule(parts.attn_out).register_forward_hook(add)
        if "mlp_out" in at and parts.mlp_out is not None:
            yield block.get_submodule(parts.mlp_out).register_forward_hook(_at_output(at["mlp_out"]))

    if "resid_post" in at:
        yield block.register_forward_hook(_at_output(at["resid_post"]))


def _at_output(visit: Visit) -> Callable[..., Any]:
    def hook(module: nn.Module, args: object, output: Tensor | tuple[Any, ...]) -> Tensor | tuple[Any, ...] | None:
        edited = visit(hidden_of(output))
        return None if edited is None else with_hidden(output, edited)

    return hook


def _at_mid(visit: Visit, scale: float) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Hooks for the block's entry and for attn_out: resid_mid is no module's output, but the sum of these two."""
    entered: list[Tensor] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entered[:] = [hidden_into(args, kwargs)]

    def add(module: nn.Module, args: object, output: Tensor | tuple[Any, ...]) -> Tensor | tuple[Any, ...] | None:
        attn_out = hidden_of(output)
        # Models that are spread over devices bring it here only after this block is entered.
        mid = entered.pop().to(attn_out.device) + scale * attn_out
        edited = visit(mid)
        # (edited - resid_pre) / s, put so that an edit that changes nothing changes no bit.
        return None if edited is None else with_hidden(output, attn_out + (edited - mid) / scale)

    return enter, add


def _at_heads(visits: Mapping[int, Visit], n_heads: int) -> Callable[..., Any]:
    """A hook for the output projection of attention, before it reads all heads [B, T, H·K]."""

    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        parts = list(args[0].chunk(n_heads, dim=-1))
        edited = {head: visit(parts[head]) for head, visit in visits.items()}
        changed = {head: part for head, part in edited.items() if part is not None}
        if not changed:
            return None
        return (torch.cat([changed.get(head, part) for head, part in enumerate(parts)], dim=-1), *args[1:])

    return hook
