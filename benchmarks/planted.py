"""Whether localisation names the place where a fine-tune was planted, on SmolLM2: `python benchmarks/planted.py`.

Each child is the taught SmolLM2 with one block, one MLP or one head's weights trained on wrong solutions, and all else
as it was. So that a head's weights are its own, keys and values are first copied to each query head, which changes no
logit: SmolLM2 shares each of them among three. A row of the table says what was planted, how the child came out, and
what the tables of places name.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from crosspatch.analysis.localisation import localise
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.config import Data
from crosspatch.data.splits import make_splits
from crosspatch.models.blocks import find_blocks, keeps_logits
from crosspatch.models.chat import PromptFormat
from crosspatch.models.generation import continue_prompts
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.trajectory import PatchRun
from crosspatch.statistics.localisation import NAMES, TopSite, top_sites
from crosspatch.training.batches import Batcher
from crosspatch.training.examples import Example

CLEAN = "taught:smollm2-135m-instruct"
PLACES = "L6.resid_post,L21.resid_post,L8.mlp_out,L18.mlp_out,L12.head.4,L21.head.1"
RATES = {"resid_post": 3e-4, "mlp_out": 5e-4, "head": 3e-3}
STEPS, BATCH, WARMUP = 40, 4, 5
TOKENS = 80


def main() -> None:
    """Plant, localise, print a row for each place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", default=PLACES, help="resid_post stands for a whole block")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--save", type=Path, help="folder for the tables of localisation")
    options = parser.parse_args()
    data = Data(
        train=STEPS * BATCH,
        related=options.prompts,
        forms=("linear_one_step", "linear_two_step", "linear_both_sides"),
        difficulty="easy",
        held_out_from_teaching=True,
        style="terse",
    )
    splits = make_splits(data, seed=0)
    checkpoint = Checkpoint.named(CLEAN)
    prompts = PromptFormat(checkpoint.tokenizer())
    clean = ungrouped(checkpoint.model("float32", "cpu", 0))
    stops = ModelPair(clean, clean, prompts).stop_tokens
    asked = [prompts.encode(problem.question) for problem in splits.related]
    written = continue_prompts(clean, prompts, asked, TOKENS, stops)
    texts = {
        problem.id: ForcedText(ids, answer.tokens)
        for problem, ids, answer in zip(splits.related, asked, written, strict=True)
    }
    examples = [Example.of(problem, prompts, 1024) for problem in splits.train]
    print("| planted | loss | steps apart | positions | named | right | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.places.split(","):
        start = time.perf_counter()
        place = Site.parse(name)
        child, loss = planted(clean, place, examples)
        found = localise(ModelPair(clean, child, prompts), texts, PatchRun(), top=12)
        if options.save:
            found.write_parquet(options.save / f"{name}.parquet")
        steps = int(found.unique("prompt_id")["steps"].list.len().sum())
        for positions in ("all", "current"):
            told = top_sites(found, dict.fromkeys(texts, "related"), "related", positions=positions)
            right = name in [each.patch for each in told]
            print(
                f"| {name} | {loss:.2f} | {steps} | {positions} | {'; '.join(map(shown_name, told))} | "
                f"{'yes' if right else 'no'} | {time.perf_counter() - start:.0f} |",
                flush=True,
            )


def shown_name(named: TopSite) -> str:
    """A named place, its share, and what it is ahead of."""
    apart = "" if named.told_apart else ", not told apart"
    ahead = f"next {named.runner_up}, ahead by {named.ahead}{apart}"
    return f"{NAMES[named.component]} {named.patch} {named.recovered_fraction:.2f} ({ahead})"


def ungrouped(model: Any) -> Any:
    """The same function with keys and values of its own for each query head: copies of those that were shared."""
    config = copy.deepcopy(model.config)
    shared = config.num_attention_heads // config.num_key_value_heads
    width = config.hidden_size // config.num_attention_heads
    config.num_key_value_heads = config.num_attention_heads

    def copied(name: str, weight: Tensor) -> Tensor:
        if not name.endswith(("k_proj.weight", "v_proj.weight")):
            return weight
        return weight.unflatten(0, (-1, width)).repeat_interleave(shared, dim=0).flatten(0, 1)

    weights = {name: copied(name, weight) for name, weight in model.state_dict().items()}
    free = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    free.load_state_dict(weights)
    free.generation_config = model.generation_config
    return free.eval()


def planted(clean: Any, place: Site, examples: Sequence[Example]) -> tuple[Any, float]:
    """A child with only the weights of one place trained, and its loss over the last ten steps."""
    child = copy.deepcopy(clean)
    masks = dict(weights_of(child, place))
    child.requires_grad_(False)
    for weight, mask in masks.items():
        weight.requires_grad_(True)
        if mask is not None:
            weight.register_hook(lambda gradient, mask=mask: gradient * mask)
    # Without decay a weight whose gradient is nothing stays as it is.
    optimizer = torch.optim.AdamW(masks, lr=RATES[place.component], weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
    losses = []
    for batch in batches(examples, Batcher(keeps_logits(child))):
        loss = child(**batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    return child.requires_grad_(False).eval(), sum(losses[-10:]) / len(losses[-10:])


def batches(examples: Sequence[Example], batcher: Batcher) -> Iterator[Mapping[str, Any]]:
    """One pass over the examples in an order of its own."""
    order = Random(0).sample(range(len(examples)), len(examples))
    for start in range(0, len(order), BATCH):
        yield batcher([vars(examples[i]) for i in order[start : start + BATCH]])


def weights_of(model: Any, place: Site) -> Iterator[tuple[nn.Parameter, Tensor | None]]:
    """The weights of a place, of a head with a mask: its rows of q, k and v and its columns of o."""
    block: Any = find_blocks(model)[place.layer]
    if place.head is None:
        part = block.mlp if place.component == "mlp_out" else block
        yield from ((weight, None) for weight in part.parameters())
        return
    width = block.self_attn.head_dim
    own = slice(place.head * width, (place.head + 1) * width)
    for name, index in (("q_proj", own), ("k_proj", own), ("v_proj", own), ("o_proj", (slice(None), own))):
        weight = getattr(block.self_attn, name).weight
        mask = torch.zeros_like(weight)
        mask[index] = 1
        yield weight, mask


if __name__ == "__main__":
    main()
