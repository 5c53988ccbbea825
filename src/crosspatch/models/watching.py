"""One small forward pass, watched: what went into every part of every block, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Int
from torch import Tensor, nn

from crosspatch.errors import UsageError
from crosspatch.models.blocks import find_blocks, hidden_into, hidden_of, text_config
from crosspatch.models.placement import input_device

# Not the very first tokens of a vocabulary, where padding and its vector of noughts live.
TOKENS = range(5, 10)


_one_stream: WeakSet[nn.Module] = WeakSet()


@dataclass(frozen=True, eq=False)
class Call:
    """A part of a block at work: its name in the block, the tensors that it was given, and what it put out."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor


@dataclass
class WatchedBlock:
    """The hidden states [B, T, D] before and after each run of a block, and its parts' calls as they ended.

    Tensors are kept as they are, not copied: one that the model changes in place later on is seen changed.
    """

    block: nn.Module
    before: list[Tensor] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The block's forward pre-hook."""
        self.before.append(hidden_into(args, kwargs))

    def leave(self, module: nn.Module, args: object, output: Any) -> None:
        """The block's forward hook."""
        self.after.append(hidden_of(output))

    def part(self, name: str) -> Callable[..., None]:
        """The forward hook of a part."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            hidden = hidden_of(output)
            if isinstance(hidden, Tensor):
                given = tuple(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
                self.calls.append(Call(name, module, given, hidden))

        return hook


def watch(model: nn.Module) -> list[WatchedBlock]:
    """Run the model over a few tokens, in evaluation mode and without gradient, and watch its blocks."""
    watched = [WatchedBlock(block) for block in find_blocks(model)]
    handles = []
    try:
        for one in watched:
            handles.append(one.block.register_forward_pre_hook(one.enter, with_kwargs=True))
            # Before the hooks of others: what the block itself returns is what its parts add up to.
            handles.append(one.block.register_forward_hook(one.leave, prepend=True))
            for name, module in one.block.named_modules():
                if name:
                    handles.append(module.register_forward_hook(one.part(name), with_kwargs=True))
        with _evaluating(model), torch.no_grad():
            model(input_ids=few_tokens(model), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return watched


def few_tokens(model: nn.Module) -> Int[Tensor, "1 T"]:
    """Some tokens of the model's vocabulary, where it reads them."""
    size = text_config(model).vocab_size
    return torch.tensor([[token % size for token in TOKENS]], device=input_device(model))


def check_streams(model: nn.Module) -> None:
    """Refuse a model whose blocks pass on more than one hidden state [B, T, D], found in a pass over a few tokens.

    Raises UsageError. The model is run on the first call only.
    """
    if model in _one_stream:
        return
    found: list[tuple[int, ...]] = []
    ids = few_tokens(model)
    handle = find_blocks(model)[0].register_forward_hook(lambda _, __, out: found.append(tuple(hidden_of(out).shape)))
    try:
        with _evaluating(model), torch.no_grad():
            model(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
    if any(len(shape) != 3 or shape[:2] != ids.shape for shape in found):
        raise UsageError(
            f"the blocks of {type(model).__name__} put out tensors [{', '.join(map(str, found[0]))}] for 1 text of "
            f"{ids.shape[1]} tokens, expected one hidden state [1, {ids.shape[1]}, D]; models with several streams "
            "cannot be patched"
        )
    _one_stream.add(model)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True
