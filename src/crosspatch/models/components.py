"""Finds the attention, MLP and heads of a model's blocks by tracing one forward pass, for any architecture.

A module counts as a component only if the traced numbers confirm it. Either the outputs of attention and MLP add up to
the block's update, resid_post = resid_pre + s·(attn_out + mlp_out), with s = 1 in most models, or some module reads
resid_pre + s·attn_out, which is resid_mid. Sites at a component that was not found are refused.
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
from crosspatch.models.blocks import decoder, find_blocks, hidden_of, name_of_blocks, text_config
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site

# The first tokens of a vocabulary are skipped: one of them is often the padding token, whose embedding is zero.
TOKENS = range(5, 10)


@dataclass(frozen=True)
class BlockComponents:
    """The modules of one block by their names inside the block, such as `post_attention_layernorm`; None if not found.

    The block adds the outputs of `attn_out` and `mlp_out` to the residual stream. `sequential`: a later part, such
    as the MLP's norm, reads resid_pre + s·attn_out; otherwise attention and MLP both read resid_pre. The input of
    `heads` holds the outputs of all heads side by side, [B, T, H·K].
    """

    kind: str
    attn_out: str | None = None
    mlp_out: str | None = None
    sequential: bool = False
    heads: str | None = None
    head_width: int | None = None


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
            reason = (
                f"no module was found for it: resid_post should be resid_pre + {scale}attn_out + {scale}mlp_out; use "
                "resid_post"
            )
        elif component == "resid_mid" and not block.sequential:
            reason = (
                "attention and MLP run in parallel, so nothing reads the sum of resid_pre and attn_out; use "
                "resid_post, attn_out or mlp_out"
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

    Tensors are not copied: if the model later changes a tensor in place, the change shows here.
    """

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor


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

    def record(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        made = getattr(output, "last_hidden_state", hidden_of(output))
        if isinstance(made, Tensor):
            given = (*args, kwargs.get("hidden_states"), *kwargs.values())
            calls.append(Call(name, module, tuple(value for value in given if isinstance(value, Tensor)), made))

    blocks = set(find_blocks(model))
    ids = [[token % text_config(model).vocab_size for token in TOKENS]]
    with _evaluating(model), torch.no_grad(), ExitStack() as stack:
        for name, module in model.named_modules():
            # Blocks record before other hooks run: the components add up to the output that the block itself returns.
            handle = module.register_forward_hook(partial(record, name), with_kwargs=True, prepend=module in blocks)
            stack.callback(handle.remove)
        decoder(model)(input_ids=torch.tensor(ids, device=input_device(model)), use_cache=False)
    return calls


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
    stream = inside[len(blocks) - 1][-1].output
    if stream.dim() != 3 or stream.shape[:2] != (1, len(TOKENS)):
        raise UsageError(
            f"the blocks of {type(model).__name__} return tensors [{', '.join(map(str, stream.shape))}] for 1 text of "
            f"{len(TOKENS)} tokens, expected one hidden state [1, {len(TOKENS)}, D]; models with several streams "
            "cannot be patched"
        )
    n_heads = getattr(config, "num_attention_heads", None)
    # Some models have no heads, and some have a list with a number for each layer.
    n_heads = n_heads if isinstance(n_heads, int) else 0
    scale = float(getattr(config, "residual_multiplier", 1))
    hidden = calls[-1].output
    norms = (c.name for c in outside if c.inputs and _equal(c.inputs[0], stream) and _equal(c.output, hidden))
    parts = (_components_of(block, inside[layer], n_heads, scale) for layer, block in enumerate(blocks))
    return Components(tuple(parts), n_heads, scale, tuple(norms))


def _components_of(block: nn.Module, calls: list[Call], n_heads: int, scale: float) -> BlockComponents:
    found = BlockComponents(type(block).__name__)
    times = Counter(call.name for call in calls)
    # A child that is called twice, such as a dropout that attention and MLP share, counts as neither output.
    once = [call for call in calls if "." not in call.name and times[call.name] == 1]
    own = [call for call in once if not call.name]
    children = [call for call in once if call.name]
    attentions = [child for child in children if "Attention" in type(child.module).__name__]
    if len(attentions) != 1 or len(own) != 1:
        return found

    before, after = own[0].inputs[0], own[0].output
    heads = _heads(attentions[0], calls, n_heads)
    if heads is not None:
        found = replace(found, heads=heads.name, head_width=heads.inputs[0].shape[-1] // n_heads)
    row = _row(attentions[0], children)
    others = [child for child in children if child not in row]
    # Search from the last: the block adds a dropout's output, not its input, although the two are equal here.
    for attn in reversed(row):
        added = scale * attn.output
        # Whether another part reads resid_pre with the attention's contribution added.
        read = [tensor for child in others for tensor in child.inputs]
        sequential = any(_adds_up(tensor, before, added) and not _equal(tensor, before) for tensor in read)
        for mlp in reversed(others):
            if _adds_up(after, before, added, scale * mlp.output):
                return replace(found, attn_out=attn.name, mlp_out=mlp.name, sequential=sequential)
        if sequential:
            return replace(found, attn_out=attn.name, sequential=True)
    return found


def _heads(attention: Call, calls: list[Call], n_heads: int) -> Call | None:
    """Return the last call of an attention part with a weight, if attention returns the output of this call."""
    inside = [call for call in calls if call.name.startswith(f"{attention.name}.")]
    weighted = [call for call in inside if isinstance(getattr(call.module, "weight", None), Tensor)]
    if not weighted or not n_heads:
        return None
    last = weighted[-1]
    read = last.inputs[0]
    splits = read.shape[:-1] == attention.output.shape[:-1] and read.shape[-1] % n_heads == 0
    return last if splits and _equal(last.output, attention.output) else None


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
    """Whether the terms sum to the total, within the rounding of their dtypes."""
    if any(term.shape != total.shape or not term.is_floating_point() for term in terms):
        return False
    # A block's input may be on the device of the previous block.
    terms = tuple(term.to(total.device) for term in terms)
    # Each product and each sum rounds by half an epsilon of its value, at most the sum of the terms' sizes.
    epsilon = max(torch.finfo(tensor.dtype).eps for tensor in (total, *terms))
    sizes = torch.stack([term.float().abs() for term in terms]).sum(0)
    missing = total.float() - torch.stack([term.float() for term in terms]).sum(0)
    return bool((missing.abs() <= 4 * epsilon * sizes).all())
