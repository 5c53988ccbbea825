"""What a block is made of, told from what it did in one small pass: no architecture is known by name.

A part is believed to be what it seems where the watched numbers say so: the contributions of attention and MLP must
add up to what the block does, resid_post = resid_pre + s·(attn_out + mlp_out), with s = 1 in most models, or some part
must read resid_pre + s·attn_out, which is resid_mid. What does not is missing, and asking for it is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from crosspatch.errors import UsageError
from crosspatch.models.blocks import find_blocks, text_config
from crosspatch.models.site import Site
from crosspatch.models.watching import Call, WatchedBlock, watch


@dataclass(frozen=True)
class BlockAnatomy:
    """The parts of one block by their names in it, such as `post_attention_layernorm`; None where none was found.

    The outputs of `attn_out` and `mlp_out` are what is added to the residual stream. `sequential`: the MLP's half
    reads resid_pre + s·attn_out; otherwise both halves read resid_pre. The input of `heads` holds the outputs of all
    heads side by side, [B, T, H·K].
    """

    kind: str
    attn_out: str | None = None
    mlp_out: str | None = None
    sequential: bool = False
    heads: str | None = None
    head_width: int | None = None


@dataclass(frozen=True)
class Anatomy:
    """The blocks of a model, first to last, its number of heads H, and the scale s of what a block adds."""

    blocks: tuple[BlockAnatomy, ...]
    n_heads: int
    scale: float

    def check(self, site: Site) -> None:
        """Raises UsageError where the block lacks the site's component or head; the block has to exist."""
        block = self.blocks[site.layer]
        where = f"no {site.name}: in block {site.layer} ({block.kind})"
        if site.component == "resid_post":
            return
        if site.component == "head":
            if block.heads is None:
                raise UsageError(
                    f"{where} no attention was found whose last step is a projection of its heads' outputs side by "
                    "side; use resid_post"
                )
            if site.head not in range(self.n_heads):
                raise UsageError(f"{where} the heads are 0 to {self.n_heads - 1}")
        elif (block.mlp_out if site.component == "mlp_out" else block.attn_out) is None:
            scale = "" if self.scale == 1 else f"{self.scale:g}·"
            raise UsageError(
                f"{where} no part was found to be it: resid_post should be resid_pre + {scale}attn_out + "
                f"{scale}mlp_out; use resid_post"
            )
        elif site.component == "resid_mid" and not block.sequential:
            raise UsageError(
                f"{where} nothing reads the sum of resid_pre and attn_out, for attention and MLP run in parallel; "
                "use resid_post, attn_out or mlp_out"
            )

    def has(self, site: Site) -> bool:
        """Whether the block, which has to exist, has the site's component and head."""
        try:
            self.check(site)
        except UsageError:
            return False
        return True


_known: WeakKeyDictionary[nn.Module, Anatomy] = WeakKeyDictionary()


def anatomy(model: nn.Module) -> Anatomy:
    """What the model's blocks are made of. The first call for a model runs it over five tokens."""
    if model not in _known:
        config = text_config(model)
        n_heads = getattr(config, "num_attention_heads", None)
        # Some models have no heads, some a number of them for each layer.
        n_heads = n_heads if isinstance(n_heads, int) else 0
        scale = float(getattr(config, "residual_multiplier", 1))
        _known[model] = Anatomy(tuple(_dissect(block, n_heads, scale) for block in watch(model)), n_heads, scale)
    return _known[model]


def check_sites(model: nn.Module, sites: Iterable[Site]) -> None:
    """Raises UsageError for a site that the model does not have: its layer, its component or its head.

    `resid_post` is in every block, so for it alone the model is not run.
    """
    depth = len(find_blocks(model))
    for site in sites:
        if site.layer >= depth:
            raise UsageError(f"no {site.name}: the layers of {type(model).__name__} are 0 to {depth - 1}")
        if site.component != "resid_post":
            anatomy(model).check(site)


def _dissect(watched: WatchedBlock, n_heads: int, scale: float) -> BlockAnatomy:
    found = BlockAnatomy(type(watched.block).__name__)
    children = [call for call in watched.calls if "." not in call.name]
    times = Counter(child.name for child in children)
    # A child that is called twice, such as a dropout that both halves share, stands for no single place.
    once = [child for child in children if times[child.name] == 1]
    attentions = [child for child in once if "Attention" in type(child.module).__name__]
    if len(attentions) != 1 or len(watched.before) != 1:
        return found

    attention = attentions[0]
    heads = _heads(attention, watched.calls, n_heads)
    if heads is not None:
        found = replace(found, heads=heads.name, head_width=heads.inputs[0].shape[-1] // n_heads)
    before, after = watched.before[0], watched.after[0]
    row = _row(attention, once)
    others = [child for child in once if child not in row]
    # Last ones first: a dropout that does nothing now is what is added, not what it read.
    for attn in reversed(row):
        added = scale * attn.output
        sequential = any(_is_mid(read, before, added) for child in others for read in child.inputs)
        for mlp in reversed(others):
            if _adds_up(after, before, added, scale * mlp.output):
                return replace(found, attn_out=attn.name, mlp_out=mlp.name, sequential=sequential)
        if sequential:
            return replace(found, attn_out=attn.name, sequential=True)
    return found


def _heads(attention: Call, calls: list[Call], n_heads: int) -> Call | None:
    """The attention's last part with a weight, if the attention returns what it puts out."""
    inside = [call for call in calls if call.name.startswith(f"{attention.name}.")]
    weighted = [call for call in inside if isinstance(getattr(call.module, "weight", None), Tensor)]
    if not weighted or not n_heads:
        return None
    last = weighted[-1]
    read = last.inputs[0]
    splits = read.shape[:-1] == attention.output.shape[:-1] and read.shape[-1] % n_heads == 0
    return last if splits and _equal(last.output, attention.output) else None


def _row(first: Call, calls: list[Call]) -> list[Call]:
    """The call, and after it those that each read just what the one before put out: a norm or a dropout, say."""
    row = [first]
    for call in calls[calls.index(first) + 1 :]:
        if any(_equal(read, row[-1].output) for read in call.inputs):
            row.append(call)
    return row


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other.to(one.device)))


def _adds_up(total: Tensor, *terms: Tensor) -> bool:
    """Whether the terms sum to the total, as nearly as their types can tell."""
    if any(term.shape != total.shape or not term.is_floating_point() for term in terms):
        return False
    # What a block was given may lie where the block before it computes.
    terms = tuple(term.to(total.device) for term in terms)
    # Each product and each sum rounds by half an epsilon of what stands there, at most the sum of the sizes.
    epsilon = max(torch.finfo(tensor.dtype).eps for tensor in (total, *terms))
    sizes = torch.stack([term.float().abs() for term in terms]).sum(0)
    missing = total.float() - torch.stack([term.float() for term in terms]).sum(0)
    return bool((missing.abs() <= 4 * epsilon * sizes).all())


def _is_mid(read: Tensor, resid_pre: Tensor, added: Tensor) -> bool:
    """Whether it is resid_pre with the attention's contribution rather than without."""
    return _adds_up(read, resid_pre, added) and not _equal(read, resid_pre)
