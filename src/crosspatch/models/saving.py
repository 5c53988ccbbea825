"""Models written to disk: whole ones as Hugging Face folders, adapters as PEFT folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from crosspatch.errors import CrosspatchError
from crosspatch.files import partial_of


def save_trained(model: Any, tokenizer: Any, base: str, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a fine-tuned model, or of one with an adapter on it the adapter alone, which names its `base`.

    `weights` are taken in place of the model's own.
    """
    if hasattr(model, "peft_config"):
        # A folder's name has to mean the same from anywhere.
        here = Path(base).expanduser()
        save_adapter(model, str(here.resolve()) if here.exists() else base, folder, weights)
    else:
        save_model(model, tokenizer, folder, weights)


def save_model(model: Any, tokenizer: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a Hugging Face folder (safetensors) that is there as a whole or not at all.

    `weights` are taken in place of the model's own.
    """
    with folder_written_whole(folder) as scratch:
        model.save_pretrained(scratch, state_dict=weights)
        tokenizer.save_pretrained(scratch)


def save_adapter(model: Any, base: str, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a PEFT folder that is there as a whole or not at all.

    `base` is written down as the model that the adapter belongs to; `weights` are taken in place of the model's own.
    They are kept in float16: half the bytes, 11 bits of what is added to weights of the same precision or less.
    """
    with folder_written_whole(folder) as scratch:
        # PEFT would look for the base on the hub, to see whether its embeddings were changed.
        model.save_pretrained(scratch, state_dict=weights, save_embedding_layers=False)
        saved = scratch / "adapter_model.safetensors"
        kept = {name: weight.to(torch.float16) for name, weight in load_file(saved).items()}
        save_file(kept, saved, metadata={"format": "pt"})
        settings = scratch / "adapter_config.json"
        # PEFT keeps the revision of a hub id by itself.
        name, _, revision = (base, "", "") if Path(base).exists() else base.partition("@")
        named = {"base_model_name_or_path": name, "revision": revision or None}
        written = {**json.loads(settings.read_text(encoding="utf-8")), **named}
        settings.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        # PEFT's page for a model hub, full of blanks to fill in.
        (scratch / "README.md").unlink(missing_ok=True)


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Another folder to write in; it takes the name `folder` when all went well, and is gone otherwise.

    Raises CrosspatchError where safetensors could not be written, which is no OSError.
    """
    scratch = partial_of(folder)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        yield scratch
        scratch.rename(folder)
    except SafetensorError as error:
        raise CrosspatchError(f"{folder} could not be written: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
