"""The transient patching sweep with TransformerLens: a hook on the residual stream of a TransformerBridge.

Three passes a step, each of one token: the corrupted model, whose block output is read; the clean model's blocks above
the patched one, run by hand; the clean model alone. The patched pass comes first and is cropped from the cache again,
so what later steps read is the clean model's. Slower were `start_at_layer`, which runs the blocks below all the same;
two rows in one pass of the clean model, one of them patched; and the HookedTransformer of TransformerLens 3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformers import DynamicCache

from peers import Pasts, main, sweep_layers


@torch.inference_mode()
def sweep(
    clean_path: str, corrupted_path: str, prompt: list[int], layers: list[int], new_tokens: int, stop: set[int]
) -> list[dict[str, Any]]:
    """Generate after `prompt` (token ids) under a patch of each layer alone, in float32; see `peers.Trajectory`."""
    clean, corrupted = load(clean_path), load(corrupted_path)

    def read(tokens: list[int]) -> Pasts:
        return Pasts(read_tokens(clean, tokens), read_tokens(corrupted, tokens))

    def step(pasts: Pasts, layer: int, token: int) -> tuple[Tensor, Tensor, Tensor]:
        ids = torch.tensor([[token]])
        moved, corrupted_logits = read_block(corrupted, ids, pasts.corrupted, layer)
        patched_logits = run_above(clean, pasts.clean, layer, moved)
        clean_logits = clean(ids, past_key_values=pasts.clean)[0, -1]
        return clean_logits, corrupted_logits, patched_logits

    return sweep_layers(prompt, layers, new_tokens, stop, read, step)


def load(path: str) -> TransformerBridge:
    """A checkpoint folder as a model with hooks, its weights as they are."""
    return TransformerBridge.boot_transformers(path, device="cpu", dtype=torch.float32)


def read_tokens(model: TransformerBridge, tokens: list[int]) -> DynamicCache:
    """The keys and values of `tokens`."""
    past = DynamicCache()
    if tokens:
        model(torch.tensor([tokens]), past_key_values=past, logits_to_keep=1)
    return past


def read_block(model: TransformerBridge, ids: Tensor, past: DynamicCache, layer: int) -> tuple[Tensor, Tensor]:
    """The output [1, 1, D] of one block and the logits [V] after one more token, by which `past` grows."""
    kept: list[Tensor] = []

    def keep(hidden: Tensor, hook: HookPoint) -> None:
        kept.append(hidden.clone())

    hooks = [(f"blocks.{layer}.hook_resid_post", keep)]
    logits = model.run_with_hooks(ids, fwd_hooks=hooks, past_key_values=past)
    return kept[0], logits[0, -1]


def run_above(model: TransformerBridge, past: DynamicCache, layer: int, moved: Tensor) -> Tensor:
    """The logits [V] after one more token whose output of one block is `moved`; `past` stays as it was."""
    hidden = moved
    rotations = model.rotary_emb(hidden, torch.tensor([[past.get_seq_length()]]))
    for block in model.blocks[layer + 1 :]:
        hidden = block(hidden, position_embeddings=rotations, past_key_values=past)
    for keys_and_values in past.layers[layer + 1 :]:
        keys_and_values.crop(-1)
    return model.unembed(model.ln_final(hidden))[0, -1]


if __name__ == "__main__":
    main("transformer_lens", sweep)
