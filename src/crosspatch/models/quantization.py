"""Weights of 8 or 4 bits, by bitsandbytes: how they are asked for, and what to know of a model that has them."""

from __future__ import annotations

import importlib.util
from typing import Any

from crosspatch.config import Quantization
from crosspatch.errors import UsageError

# Logits: where the models' ΔLs are closer, CTS says nothing. About twice the mean difference between a cached and an
# uncached pass of SmolLM2: 0.48 in 8 bits, where what is multiplied is rounded to 8 bits as well, and 0.06 in 4.
SMALL_DENOMINATORS: dict[Quantization | None, float] = {"8bit": 1.0, "4bit": 0.1, None: 0.0}


def quantized_config(quantization: Quantization, dtype: str) -> Any:
    """What `from_pretrained` is given for it; sums are in `dtype`. Raises UsageError where bitsandbytes is missing."""
    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            f"models.quantization={quantization} needs bitsandbytes, which is not installed; run: "
            'pip install "crosspatch[quantized]"'
        )
    if quantization == "8bit":
        if dtype != "float16":
            raise UsageError(f"got dtype {dtype} with 8bit, which multiplies in float16; set models.dtype=float16")
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
    )


def quantization_of(model: Any) -> Quantization | None:
    """How a model's weights are quantised by bitsandbytes; None: not at all."""
    if getattr(model, "is_loaded_in_8bit", False):
        return "8bit"
    return "4bit" if getattr(model, "is_loaded_in_4bit", False) else None
