"""The transient patching sweep with nnsight: the models wrapped as they are, each intervention a traced block.

Three passes a step, each of one token: the corrupted model, whose block output is read; the clean model from the
patched block on, the blocks below it skipped; the clean model alone. The patched pass comes first and is cropped
from the cache again, so what later steps read is the clean model's. Two rows in one pass of the clean model,
one of them patched, were slower on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from nnsight import TransformersModel
from torch import Tensor
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
        patched_logits = replace_block(clean, ids, pasts.clean, layer, moved)
        clean_logits = clean.trace(input_ids=ids, past_key_values=pasts.clean, trace=False).logits[0, -1]
        return clean_logits, corrupted_logits, patched_logits

    return sweep_layers(prompt, layers, new_tokens, stop, read, step)


def load(path: str) -> TransformersModel:
    """A checkpoint folder as a model that can be traced."""
    return TransformersModel(path, task="text-generation", dtype=torch.float32, device="cpu", dispatch=True)


def read_tokens(model: TransformersModel, tokens: list[int]) -> DynamicCache:
    """The keys and values of `tokens`."""
    past = DynamicCache()
    if tokens:
        model.trace(input_ids=torch.tensor([tokens]), past_key_values=past, logits_to_keep=1, trace=False)
    return past


def read_block(model: TransformersModel, ids: Tensor, past: DynamicCache, layer: int) -> tuple[Tensor, Tensor]:
    """The output [1, 1, D] of one block and the logits [V] after one more token, by which `past` grows."""
    with model.trace(input_ids=ids, past_key_values=past):
        hidden = model.model.layers[layer].output.save()
        logits = model.lm_head.output.save()
    return hidden, logits[0, -1]


def replace_block(model: TransformersModel, ids: Tensor, past: DynamicCache, layer: int, moved: Tensor) -> Tensor:
    """The logits [V] after one more token whose output of one block is `moved`; `past` stays as it was."""
    with model.trace(input_ids=ids, past_key_values=past):
        # Nothing that the blocks below compute reaches the logits, so they need not run.
        for block in model.model.layers[: layer + 1]:
            block.skip(moved)
        logits = model.lm_head.output.save()
    for keys_and_values in past.layers[layer + 1 :]:
        keys_and_values.crop(-1)
    return logits[0, -1]


if __name__ == "__main__":
    main("nnsight", sweep)
