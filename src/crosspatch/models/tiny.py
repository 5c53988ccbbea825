"""Creates tiny random models with a tokenizer in memory, for tests and for trying out a pipeline."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from crosspatch.config import Data
from crosspatch.data.splits import make_splits

VOCABULARY = 512

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_SHAPE = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 2048,
}
_GPT2_SHAPE = {"n_embd": 48, "n_layer": 4, "n_head": 4, "n_positions": 2048}
# The names that can follow `random:`.
ARCHITECTURES = {"gpt2": (GPT2Config, _GPT2_SHAPE), "llama": (LlamaConfig, _SHAPE), "qwen3": (Qwen3Config, _SHAPE)}


def tiny_config(architecture: str) -> Any:
    """Return the configuration of a tiny model: 4 blocks, width 48, 512 tokens. `architecture`: see `ARCHITECTURES`."""
    tokenizer = tiny_tokenizer()
    config_class, shape = ARCHITECTURES[architecture]
    return config_class(
        **shape,
        vocab_size=VOCABULARY,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # With the usual 0.02, a random model's logits would all be nearly equal.
        initializer_range=0.2,
        tie_word_embeddings=False,
    )


def tiny_model(architecture: str, seed: int = 0) -> Any:
    """Return a tiny random model in float32, in evaluation mode; does not change the global generator's state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(tiny_config(architecture), dtype=torch.float32).eval()


@cache
def tiny_tokenizer() -> Any:
    """Return a byte-level BPE tokenizer with a chat template, trained on generated equations; always the same."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    problems = make_splits(Data(train=12, validation=12, related=0), seed=0)
    texts = [f"{p.question}\n{p.solution}" for p in problems.train + problems.validation]
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )
