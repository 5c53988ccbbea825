"""Reads and edits the activations of an unmodified model at sites, during its forward passes.

Shapes: B rows, T positions, D model width, H heads, K head width. A site's activation is [B, T, D]. A head's activation
is [B, T, K]: its part of the input of the attention's output projection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from crosspatch.models.blocks import Output, decoder, find_blocks, hidden_into, hidden_of, with_hidden
from crosspatch.models.components import check_sites, find_components
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site

# Maps a site's activation to a new one of the same shape, or returns None to keep the activation.
Edit = Callable[[Tensor], Tensor | None]


@contextmanager
def reading(model: nn.Module, sites: Iterable[Site]) -> Iterator[dict[Site, Tensor]]:
    """Within the context, each forward pass stores the sites' activations in the mapping.

    Raises UsageError for a site that the model does not have.
    """
    read: dict[Site, Tensor] = {}
    with editing(model, {site: partial(read.__setitem__, site) for site in sites}):
        yield read


def plain_pass(
    model: nn.Module, ids: Sequence[int], sites: Sequence[Site]
) -> tuple[Float[Tensor, "T D"], dict[Site, Float[Tensor, "T _"]]]:
    """Return a text's last hidden states, computed without a cache, and activations in the order of the sites.

    Raises UsageError for a site that the model does not have.
    """
    with reading(model, sites) as activations:
        hidden = decoder(model)(input_ids=torch.tensor([ids], device=input_device(model)), use_cache=False)[0]
    return hidden[0], {site: activations[site][0] for site in sites}


@contextmanager
def editing(model: nn.Module, edits: Mapping[Site, Edit]) -> Iterator[None]:
    """Within the context, each edit's result replaces its site's activation, and all later modules read the result.

    An edit does not change its argument. Edits of one layer run in the order of computation: heads, attn_out,
    resid_mid, mlp_out, resid_post. Each edit sees the results of earlier edits, also those of contexts opened before.
    Raises UsageError for a site that the model does not have.
    """
    check_sites(model, edits)
    with ExitStack() as stack:
        for layer in sorted({site.layer for site in edits}):
            here = {site: edit for site, edit in edits.items() if site.layer == layer}
            for handle in _register(model, layer, here):
                stack.callback(handle.remove)
        yield


def replacing(positions: Int[Tensor, " P"], values: Float[Tensor, "N W"], rows: Int[Tensor, " P"]) -> Edit:
    """Return an edit that replaces one sequence's activation [1, T, W] at `positions` with these rows of `values`."""

    def edit(activation: Tensor) -> Tensor:
        chosen = values[rows.to(values.device)][None].to(activation)
        return activation.index_copy(1, positions.to(activation.device), chosen)

    return edit


def remembering(live: dict[Site, Tensor], site: Site, values: Float[Tensor, "T W"] | None = None) -> Edit:
    """Return an edit that stores in `live` the tensor whose gradient is needed.

    The activation stays unchanged, or becomes `values` for one sequence. Gradients pass as if unchanged.
    """

    def edit(activation: Tensor) -> Tensor:
        # If no weight requires a gradient, the activations at the first sites do not require one either.
        wanted = activation if activation.requires_grad else activation.detach().requires_grad_()
        # A new tensor that only later modules read.
        live[site] = wanted.clone() if values is None else wanted + (values[None] - wanted).detach()
        return live[site]

    return edit


def _register(model: nn.Module, layer: int, edits: Mapping[Site, Edit]) -> Iterator[RemovableHandle]:
    """Register hooks in the order of computation: hooks on one module run in the order of registration."""
    block = find_blocks(model)[layer]
    at = {site.component: edit for site, edit in edits.items()}
    if at.keys() != {"resid_post"}:
        known = find_components(model)
        names = known.blocks[layer]

        def part(name: str | None) -> nn.Module:
            # `check_sites` has already refused sites whose component was not found.
            return block.get_submodule(name or "")

        if "head" in at:
            heads = {site.head: edit for site, edit in edits.items() if site.head is not None}
            yield part(names.heads).register_forward_pre_hook(_at_heads(heads, known.n_heads))
        entered: list[Tensor] = []
        if names.flat or "resid_mid" in at:
            yield block.register_forward_pre_hook(_keeping(entered), with_kwargs=True)
        outputs = {"attn_out": names.attn_out, "mlp_out": names.mlp_out}
        for component, name in outputs.items():
            if component in at:
                shaped = entered if name in names.flat else None
                hook = _at_output(at[component], shaped, overwritten=name in names.overwritten)
                yield part(name).register_forward_hook(hook)
            if component == "attn_out" and "resid_mid" in at:
                yield part(name).register_forward_hook(_at_mid(at["resid_mid"], entered, known.scale))
    if "resid_post" in at:
        yield block.register_forward_hook(_at_output(at["resid_post"]))


def _keeping(entered: list[Tensor]) -> Callable[..., None]:
    """Return a hook for the block that keeps its input, the residual stream [B, T, D]."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entered[:] = [hidden_into(args, kwargs)]

    return hook


def _at_output(edit: Edit, entered: list[Tensor] | None = None, *, overwritten: bool = False) -> Callable[..., Any]:
    """Return a hook for a module that edits its hidden state.

    `entered` has the block's input if the hidden state is flat, [B·T, D]. If the block changes the hidden state in
    place later (`overwritten`), neither the edit nor the caller keeps the tensor that changes.
    """

    def hook(module: nn.Module, args: object, output: Output) -> Output | None:
        hidden = hidden_of(output)
        activation = hidden.clone() if overwritten else hidden
        edited = edit(activation if entered is None else activation.reshape(entered[0].shape))
        if edited is None:
            return None
        return with_hidden(output, (edited.clone() if overwritten else edited).reshape(hidden.shape))

    return hook


def _at_mid(edit: Edit, entered: list[Tensor], scale: float) -> Callable[..., Any]:
    """Return a hook for attn_out. No module outputs resid_mid: it is the block's input plus s·attn_out."""

    def hook(module: nn.Module, args: object, output: Output) -> Output | None:
        attn_out = hidden_of(output)
        # In a model that is spread over devices, the input may have been on another device before this block.
        mid = entered[0].to(attn_out.device) + scale * attn_out
        edited = edit(mid)
        # (edited - resid_pre) / s, in a form that is exact for an edit that changes nothing.
        return None if edited is None else with_hidden(output, attn_out + (edited - mid) / scale)

    return hook


def _at_heads(edits: Mapping[int, Edit], n_heads: int) -> Callable[..., Any]:
    """Return a hook for the attention's output projection that edits its input, all heads [B, T, H·K]."""

    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        parts = list(args[0].chunk(n_heads, dim=-1))
        edited = [edits[head](part) if head in edits else None for head, part in enumerate(parts)]
        if all(part is None for part in edited):
            return None
        return (torch.cat([p if e is None else e for p, e in zip(parts, edited, strict=True)], dim=-1), *args[1:])

    return hook
