"""The transient patching sweep with TransformerLens: a hook on the residual stream of a TransformerBridge.

Two passes a step, each of one token: the corrupted model, whose block output is read, and the clean model on two
rows, of which one is patched. What the patched row left in the cache is then overwritten by the clean row's, so
what later steps read is the clean model's. A third pass instead of the second row was slower, since `start_at_layer`
runs the blocks below all the same; so was the HookedTransformer of TransformerLens 3.
"""

from __future__ import annotations

from typing import Any

import torch
from peers import Pasts, main, sweep_layers
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformers import DynamicCache


@torch.inference_mode()
def sweep(
    clean_path: str, corrupted_path: str, prompt: list[int], layers: list[int], new_tokens: int, stop: set[int]
) -> list[dict[str, Any]]:
    """Generate after `prompt` (token ids) under a patch of each layer alone, in float32; see `peers.Trajectory`."""
    clean, corrupted = load(clean_path), load(corrupted_path)

    def read(tokens: list[int]) -> Pasts:
        return Pasts(read_tokens(clean, tokens, rows=2), read_tokens(corrupted, tokens, rows=1))

    def step(pasts: Pasts, layer: int, token: int) -> tuple[Tensor, Tensor, Tensor]:
        ids = torch.tensor([[token]])
        moved, corrupted_logits = read_block(corrupted, ids, pasts.corrupted, layer)
        clean_logits, patched_logits = replace_block(clean, ids, pasts.clean, layer, moved)
        return clean_logits, corrupted_logits, patched_logits

    return sweep_layers(prompt, layers, new_tokens, stop, read, step)


def load(path: str) -> TransformerBridge:
    """A checkpoint folder as a model with hooks, its weights as they are."""
    return TransformerBridge.boot_transformers(path, device="cpu", dtype=torch.float32)


def read_tokens(model: TransformerBridge, tokens: list[int], rows: int) -> DynamicCache:
    """The keys and values of `tokens`, in so many equal rows."""
    past = DynamicCache()
    if tokens:
        model(torch.tensor([tokens]), past_key_values=past, logits_to_keep=1)
        past.batch_repeat_interleave(rows)
    return past


def read_block(model: TransformerBridge, ids: Tensor, past: DynamicCache, layer: int) -> tuple[Tensor, Tensor]:
    """The output [1, 1, D] of one block and the logits [V] after one more token, by which `past` grows."""
    kept: list[Tensor] = []

    def keep(hidden: Tensor, hook: HookPoint) -> None:
        kept.append(hidden.clone())

    hooks = [(f"blocks.{layer}.hook_resid_post", keep)]
    logits = model.run_with_hooks(ids, fwd_hooks=hooks, past_key_values=past)
    return kept[0], logits[0, -1]


def replace_block(
    model: TransformerBridge, ids: Tensor, past: DynamicCache, layer: int, moved: Tensor
) -> tuple[Tensor, Tensor]:
    """The clean and the patched logits [V] after one more token; both rows of `past` grow by the clean model's."""

    def replace(hidden: Tensor, hook: HookPoint) -> Tensor:
        hidden[1] = moved[0]
        return hidden

    hooks = [(f"blocks.{layer}.hook_resid_post", replace)]
    clean, patched = model.run_with_hooks(ids.expand(2, 1), fwd_hooks=hooks, past_key_values=past)[:, -1]
    for block in past.layers[layer + 1 :]:
        block.keys[1, :, -1], block.values[1, :, -1] = block.keys[0, :, -1], block.values[0, :, -1]
    return clean, patched


if __name__ == "__main__":
    main("transformer_lens", sweep)
