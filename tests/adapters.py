"""PEFT adapters of tiny models for the tests, as PEFT saves them."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers.pytorch_utils import Conv1D

from crosspatch.models.saving import save_model
from crosspatch.models.tiny import tiny_model, tiny_tokenizer


def saved_base(folder: Path, architecture: str = "qwen3") -> str:
    save_model(tiny_model(architecture), tiny_tokenizer(), folder)
    return str(folder)


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


def changed_settings(folder: Path, file: str = "adapter_config.json", **values: Any) -> None:
    """Change some settings in a JSON file of a checkpoint."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
