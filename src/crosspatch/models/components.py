"""Finds the attention, MLP and heads of a model's blocks by tracing one forward pass, for any architecture.

A module counts as a component only if the traced numbers confirm it. Either the outputs of attention and MLP add up to
the block's update, resid_post = resid_pre + s·(attn_out + mlp_out), with s = 1 in most models, or some module reads
resid_pre + s·attn_out, which is resid_mid. Attention is known by its class's name; in a block without attention, what
stands in its place (a convolution, a recurrence) is found by its place alone. Where attention or MLP add the residual
stream themselves, the component is the part of them that computes what they add. Sites at a component that was not
found are refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from crosspatch.errors import UsageError
from crosspatch.models.blocks import decoder, find_blocks, head_count, hidden_of, name_of_blocks, text_config
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site

# The first tokens of a vocabulary are skipped: one of them is often the padding token, whose embedding is zero.
TOKENS = range(5, 10)


@dataclass(frozen=True)
class BlockComponents:
    """The modules of one block by their names inside the block, such as `post_attention_layernorm`; None if not found.

    The block adds the outputs of `attn_out` and `mlp_out` to the residual stream. `sequential`: a later part, such
    as the MLP's norm, reads resid_pre + s·attn_out; otherwise attention and MLP both read resid_pre. The input of
    `heads` holds the outputs of all heads side by side, [B, T, H·K]. `overwritten` are those of these modules whose
    outputs the block changes in place later; `flat` those that return all tokens of all rows as one list, [B·T, D].
    `ends_with` is the norm that the block ends with, if it does.
    """

    kind: str
    attn_out: str | None = None
    mlp_out: str | None = None
    sequential: bool = False
    heads: str | None = None
    head_width: int | None = None
    overwritten: frozenset[str] = frozenset()
    flat: frozenset[str] = frozenset()
    ends_with: str | None = None


@dataclass(frozen=True)
class Components:
    """A model's blocks, first to last, its number of heads H, the scale s of each block's update, and its final norm.

    `final_norms` are the names of the modules that map the last block's output to the unembedding's input.
    """

    blocks: tuple[BlockComponents, ...]
    n_heads: int
    scale: float
    final_norms: tuple[str, ...]

    def reason_against(self, site: Site) -> str | None:
        """Return why the block lacks the site, or None if it has the site. The layer has to exist."""
        block, component = self.blocks[site.layer], site.component
        output = {"mlp_out": block.mlp_out, "attn_out": block.attn_out, "resid_mid": block.attn_out}
        if component == "head" and block.heads is None:
            reason = (
                "no attention was found that ends with a projection of its heads' outputs side by side; use resid_post"
            )
        elif component == "head" and site.head not in range(self.n_heads):
            reason = f"the heads are 0 to {self.n_heads - 1}"
        elif component in output and output[component] is None:
            scale = "" if self.scale == 1 else f"{self.scale:g}·"
            normed = f", but the block ends with the norm {block.ends_with}" if block.ends_with else ""
            reason = (
                f"no module was found for it: resid_post should be resid_pre + {scale}attn_out + {scale}mlp_out"
                f"{normed}; use resid_post"
            )
        elif component == "resid_mid" and not block.sequential:
            parallel = "attention and MLP run in parallel" if block.mlp_out else "the block has no MLP"
            reason = (
                f"{parallel}, so nothing reads the sum of resid_pre and attn_out; use resid_post, attn_out or mlp_out"
            )
        else:
            return None
        return f"no {site.name}: in block {site.layer} ({block.kind}) {reason}"

    def has(self, site: Site) -> bool:
        """Whether the block has the site's component and head. The layer has to exist."""
        return self.reason_against(site) is None


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module: its name, its input tensors (hidden states first), and its output.

    `output` is as the module returned it; `overwritten` says that the model changed it in place later. Inputs are not
    copied: if the model later changes one in place, the change shows here.
    """

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor
    overwritten: bool = False


_known: WeakKeyDictionary[nn.Module, Components] = WeakKeyDictionary()


def find_components(model: nn.Module) -> Components:
    """Return the components of the model's blocks. The first call for a model runs it over five tokens.

    Raises UsageError for a model whose blocks return more than one hidden state [B, T, D].
    """
    if model not in _known:
        _known[model] = _found_in(model, trace(model))
    return _known[model]


def check_sites(model: nn.Module, sites: Iterable[Site]) -> None:
    """Raise UsageError if the model lacks the layer, component or head of a site.

    Every block has `resid_post`, so sites at `resid_post` need no forward pass.
    """
    depth = len(find_blocks(model))
    for site in sites:
        if site.layer >= depth:
            raise UsageError(f"no {site.name}: the layers of {type(model).__name__} are 0 to {depth - 1}")
        if site.component != "resid_post" and (reason := find_components(model).reason_against(site)):
            raise UsageError(reason)


def final_norm(model: nn.Module) -> nn.Module:
    """Return the module between the last block and the unembedding. Raises UsageError if there is not exactly one."""
    names = find_components(model).final_norms
    if len(names) != 1:
        raise UsageError(
            f"{type(model).__name__} has {len(names)} modules between its last block and its unembedding, expected "
            "one norm; a logit lens cannot read its layers"
        )
    return model.get_submodule(names[0])


def trace(model: nn.Module) -> list[Call]:
    """Run the decoder over a few tokens in evaluation mode, without gradients; return the calls in order of completion.

    The last call is the decoder's.
    """
    calls: list[Call] = []
    live: list[Tensor] = []

    def record(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        made = getattr(output, "last_hidden_state", hidden_of(output))
        # The items of a named tuple are not a hidden state and what comes with it, but several hidden states.
        if isinstance(made, Tensor) and not hasattr(output, "_fields"):
            given = (*args, kwargs.get("hidden_states"), *kwargs.values())
            calls.append(Call(name, module, tuple(value for value in given if isinstance(value, Tensor)), made.clone()))
            live.append(made)

    blocks = set(find_blocks(model))
    ids = [[token % text_config(model).vocab_size for token in TOKENS]]
    with _evaluating(model), torch.no_grad(), ExitStack() as stack:
        for name, module in model.named_modules():
            # Blocks record before other hooks run: the components add up to the output that the block itself returns.
            handle = module.register_forward_hook(partial(record, name), with_kwargs=True, prepend=module in blocks)
            stack.callback(handle.remove)
        decoder(model)(input_ids=torch.tensor(ids, device=input_device(model)), use_cache=False)
    return [replace(call, overwritten=not _equal(call.output, made)) for call, made in zip(calls, live, strict=True)]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


def _found_in(model: nn.Module, calls: list[Call]) -> Components:
    config, blocks, prefix = text_config(model), find_blocks(model), f"{name_of_blocks(model)}."
    # Calls by block, under their names inside the block; the name of the block's own call is empty.
    inside: defaultdict[int, list[Call]] = defaultdict(list)
    outside: list[Call] = []
    for call in calls:
        if call.name.startswith(prefix):
            layer, _, name = call.name.removeprefix(prefix).partition(".")
            inside[int(layer)].append(replace(call, name=name))
        else:
            outside.append(call)
    if not (last := inside[len(blocks) - 1]):
        raise UsageError(f"the last block of {type(model).__name__} does not run on a text of {len(TOKENS)} tokens")
    streams = [call.output for call in last if not call.name]
    if [tuple(stream.shape[:-1]) for stream in streams] != [(1, len(TOKENS))]:
        found = " and ".join(f"a tensor {list(stream.shape)}" for stream in streams) or "several tensors"
        raise UsageError(
            f"the blocks of {type(model).__name__} return {found} for 1 text of {len(TOKENS)} tokens, expected one "
            f"hidden state [1, {len(TOKENS)}, D]; models with several streams cannot be patched"
        )
    stream = streams[0]
    n_heads = head_count(config)
    scale = float(getattr(config, "residual_multiplier", 1))
    hidden = calls[-1].output
    norms = (c.name for c in outside if c.inputs and _equal(c.inputs[0], stream) and _equal(c.output, hidden))
    parts = (_components_of(block, inside[layer], n_heads, scale) for layer, block in enumerate(blocks))
    return Components(tuple(parts), n_heads, scale, tuple(norms))


def _components_of(block: nn.Module, calls: list[Call], n_heads: int, scale: float) -> BlockComponents:
    found = BlockComponents(type(block).__name__)
    times = Counter(call.name for call in calls)
    # A module that is called twice, such as a dropout that attention and MLP share, counts as neither output.
    once = [call for call in calls if times[call.name] == 1]
    own = [call for call in once if not call.name]
    children = [call for call in once if call.name and "." not in call.name]
    attentions = [child for child in children if "Attention" in _kind(child)]
    if len(attentions) > 1 or len(own) != 1:
        return found

    before, after = own[0].inputs[0], own[0].output
    ends = next((call for call in once if call.name and _equal(call.output, after) and "Norm" in _kind(call)), None)
    found = replace(found, ends_with=None if ends is None else ends.name)
    heads = _heads(attentions[0], before, once, n_heads, scale) if attentions else None
    if heads is not None:
        found = replace(found, heads=heads.name, head_width=heads.inputs[0].shape[-1] // n_heads)

    def with_parts(attn: Call, mlp: Call | None, sequential: bool) -> BlockComponents:
        parts = [part for part in (attn, mlp) if part is not None]
        return replace(
            found,
            attn_out=attn.name,
            mlp_out=None if mlp is None else mlp.name,
            sequential=sequential,
            overwritten=frozenset(part.name for part in parts if part.overwritten),
            flat=frozenset(part.name for part in parts if part.output.dim() < after.dim()),
        )

    for first in attentions or children:
        adding = [part for part in _inside(first, once) if _adds_up(first.output, before, scale * part.output)]
        row = adding[-1:] or _row(first, children)
        others = [child for child in children if child not in row and child is not first]
        inner = [part for child in others for part in _inside(child, once)]
        # Search from the last: the block adds a dropout's output, not its input, although the two are equal here.
        for attn in reversed(row):
            added = scale * attn.output
            # Whether another part reads resid_pre with the attention's contribution added.
            read = [tensor for child in others for tensor in child.inputs]
            sequential = any(_adds_up(tensor, before, added) and not _equal(tensor, before) for tensor in read)
            if not (attentions or sequential):
                continue
            for mlp in (*reversed(others), *reversed(inner)):
                if _adds_up(after, before, added, scale * mlp.output):
                    return with_parts(attn, mlp, sequential)
            if sequential or _adds_up(after, before, added):
                return with_parts(attn, None, sequential)
    return found


def _kind(call: Call) -> str:
    return type(call.module).__name__


def _inside(part: Call, calls: list[Call]) -> list[Call]:
    return [call for call in calls if call.name.startswith(f"{part.name}.")]


def _heads(attention: Call, before: Tensor, calls: list[Call], n_heads: int, scale: float) -> Call | None:
    """Return the last matrix inside an attention part, if attention returns or adds the matrix's output.

    The input of this matrix must have the size of all heads. Where attention is wrapped in parts of the same name,
    such as one with the norm that follows it, the innermost is tried first.
    """
    for part in [call for call in (*_inside(attention, calls), attention) if "Attention" in _kind(call)]:
        matrices = [
            call for call in _inside(part, calls) if getattr(getattr(call.module, "weight", None), "ndim", 0) == 2
        ]
        if not matrices or not n_heads:
            continue
        last, read = matrices[-1], matrices[-1].inputs[0]
        returned = _equal(last.output, part.output) or _adds_up(part.output, before, scale * last.output)
        if returned and read.shape[:-1] == part.output.shape[:-1] and read.shape[-1] % n_heads == 0:
            return last
    return None


def _row(first: Call, calls: list[Call]) -> list[Call]:
    """Return a call and the chain of calls, such as norms or dropouts, that each read the output of the one before."""
    row = [first]
    for call in calls[calls.index(first) + 1 :]:
        if any(_equal(read, row[-1].output) for read in call.inputs):
            row.append(call)
    return row


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other.to(one.device)))


def _adds_up(total: Tensor, *terms: Tensor) -> bool:
    """Whether the terms sum to the total, within the rounding of their dtypes; any may be flat, [B·T, D]."""
    if any(t.shape[-1:] != total.shape[-1:] or t.numel() != total.numel() or not t.is_floating_point() for t in terms):
        return False
    # A block's input may be on the device of the previous block.
    terms = tuple(term.to(total.device).reshape(total.shape) for term in terms)
    # Each product and each sum rounds by half an epsilon of its value, at most the sum of the terms' sizes.
    epsilon = max(torch.finfo(tensor.dtype).eps for tensor in (total, *terms))
    sizes = torch.stack([term.float().abs() for term in terms]).sum(0)
    missing = total.float() - torch.stack([term.float() for term in terms]).sum(0)
    return bool((missing.abs() <= 4 * epsilon * sizes).all())
