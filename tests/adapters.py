"""PEFT adapters of tiny models for the tests, as PEFT saves them."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers.pytorch_utils import Conv1D

from crosspatch.models.pair import ModelPair
from crosspatch.models.saving import save_model
from crosspatch.models.tiny import tiny_tokenizer
from pairs import changed_model

TOKENS = torch.arange(40)[None]


def saved_base(
    folder: Path, architecture: str = "qwen3", seed: int = 0, *, tokenizer: Any = None, **changes: Any
) -> str:
    """A saved tiny model, with changes in its configuration."""
    save_model(changed_model(architecture, seed, **changes), tokenizer or tiny_tokenizer(), folder)
    return str(folder)


def shared_and_merged(base: str | Path, adapter: str | Path, **options: Any) -> tuple[ModelPair, ModelPair]:
    shared, merged = (
        ModelPair.load(str(base), str(adapter), device="cpu", share_base=share, **options) for share in (True, False)
    )
    assert are_shared(shared)
    assert not are_shared(merged)
    return shared, merged


def are_shared(pair: ModelPair) -> bool:
    """Whether the corrupted model has all of the clean one's weights, or none of them."""
    clean, corrupted = ({weight.data_ptr() for weight in m.parameters()} for m in (pair.clean, pair.corrupted))
    assert clean & corrupted in (set(), clean)
    return bool(clean & corrupted)


def saved_adapter(folder: Path, base: str, model: Any, size: float = 0.05, **settings: Any) -> str:
    """An adapter of random updates, about so large, of a model that is saved at `base`."""
    turned = any(isinstance(module, Conv1D) for module in model.modules())
    usual = {"r": 4, "target_modules": "all-linear", "fan_in_fan_out": turned, "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(**{**usual, **settings}))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if weight.requires_grad:
                # Factors become random, and what is trained besides them moves.
                kept = 0 if "lora_" in name and "magnitude" not in name else weight
                weight.copy_(kept + size * torch.randn(weight.shape, generator=generator))
    adapted.peft_config["default"].base_model_name_or_path = base
    # PEFT would look for the base on the hub, to see whether its embeddings were changed.
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return str(folder)


@torch.inference_mode()
def logits(model: Any, tokens: Any = TOKENS) -> torch.Tensor:
    return model.eval()(input_ids=tokens, use_cache=False).logits


def changed_settings(folder: Path, file: str = "adapter_config.json", **values: Any) -> None:
    """Change some settings in a JSON file of a checkpoint."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
