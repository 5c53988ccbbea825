"""Writes models to disk: whole models as Hugging Face folders, adapters as PEFT folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from crosspatch.errors import CrosspatchError
from crosspatch.files import folder_written_whole
from crosspatch.models.safe_loading import ADAPTER


def save_model(model: Any, tokenizer: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a Hugging Face folder (safetensors), completely or not at all. `weights` replace the model's own."""
    with model_written_whole(folder) as scratch:
        model.save_pretrained(scratch, state_dict=weights)
        tokenizer.save_pretrained(scratch)


def save_adapter(model: Any, base: str, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a PEFT folder, completely or not at all, for an adapter of the model named `base`.

    `weights` replace the model's own. They are saved in float16, in half the bytes: its 11 significant bits are enough
    for an update to weights of the same or lower precision.
    """
    with model_written_whole(folder) as scratch:
        # PEFT would otherwise ask the hub for the base, to find out whether the embeddings changed.
        model.save_pretrained(scratch, state_dict=weights, save_embedding_layers=False)
        saved = scratch / ADAPTER
        kept = {name: weight.to(torch.float16) for name, weight in load_file(saved).items()}
        save_file(kept, saved, metadata={"format": "pt"})
        settings = scratch / "adapter_config.json"
        # An absolute path is valid from any working directory; PEFT has a separate setting for a hub id's revision.
        here = Path(base).expanduser()
        name, _, revision = (str(here.resolve()), "", "") if here.exists() else base.partition("@")
        named = {"base_model_name_or_path": name, "revision": revision or None}
        written = {**json.loads(settings.read_text(encoding="utf-8")), **named}
        settings.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        # Remove PEFT's model card, an unfilled template.
        (scratch / "README.md").unlink(missing_ok=True)


@contextmanager
def model_written_whole(folder: Path) -> Iterator[Path]:
    """Like `folder_written_whole`, but raises CrosspatchError for safetensors' errors, which are no OSErrors."""
    try:
        with folder_written_whole(folder) as scratch:
            yield scratch
    except SafetensorError as error:
        raise CrosspatchError(f"{folder} could not be written: {error}") from error
