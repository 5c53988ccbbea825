"""Refuses checkpoints whose files contain pickles, code, or settings that fetch code.

Reading a pickle can run code. Safetensors, JSON and GGUF files hold only numbers and text, but some of their settings
make Hugging Face libraries fetch or import code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crosspatch.errors import UsageError

ADAPTER = "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
# Implementations in torch itself; other names refer to packages, or to compiled code that is fetched from a hub.
_OWN = {
    "attn_implementation": frozenset({None, "eager", "sdpa", "flex_attention"}),
    "experts_implementation": frozenset({None, "eager", "batched_mm", "grouped_mm"}),
}
# GGUF settings that scale rotary angles, unless they are "none", 0 or 1.
_SCALING = frozenset(
    {"scaling.type", "scaling.factor", "scaling.alpha", "scaling.attn_factor", "scale_linear", "scale"}
)

_CONVERT_MODEL = (
    "from transformers import AutoModelForCausalLM as M; "
    "M.from_pretrained({0!r}, use_safetensors=False, trust_remote_code=False).save_pretrained({0!r})"
)
_CONVERT_ADAPTER = (
    "import torch; from safetensors.torch import save_file; "
    "save_file(torch.load({0!r} + '/adapter_model.bin', weights_only=True), {0!r} + '/adapter_model.safetensors')"
)


def check_weights(folder: Path, name: str) -> None:
    """Refuse a model's folder if any of its weights are pickled. Raises UsageError."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        # Transformers would unpickle a file of another type, and would follow a path out of the folder.
        for part in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values():
            if not isinstance(part, str) or Path(part).name != part or not part.endswith(".safetensors"):
                raise UsageError(
                    f"{index} names {part!r:.100} as a part of the weights, expected files such as "
                    "model-00001-of-00002.safetensors beside it"
                )
    elif not (folder / "model.safetensors").is_file():
        _refuse_pickles(folder, name, _CONVERT_MODEL)


def check_adapter(folder: Path, name: str, settings: Mapping[str, Any]) -> None:
    """Refuse an adapter without safetensors, or with settings that import or fetch code. Raises UsageError."""
    if not (folder / ADAPTER).is_file():
        _refuse_pickles(folder, name, _CONVERT_ADAPTER)
        # PEFT would look for a hub repository with the folder's name.
        raise UsageError(f"the adapter {name} could not be read: {ADAPTER} is missing")
    if settings.get("megatron_config") is not None:
        raise UsageError(
            f"{name}/adapter_config.json has megatron_config, for which PEFT imports a module that the file names; "
            "remove it, only parallel training needs it"
        )
    if str(settings.get("peft_type")).upper() == "XLORA":
        raise UsageError(f"{name} is an X-LoRA adapter, which downloads further adapters; expected one such as LoRA")


def check_gguf(path: Path) -> None:
    """Refuse a GGUF file whose rotary angles are scaled: transformers does not read the scaling. Raises UsageError."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    scaled = [f"tensor {t.name}" for t in reader.tensors if t.name.startswith(("rope_freqs", "rope_factors"))]
    for key, field in reader.fields.items():
        # Transformers reads the scaling only for gpt-oss.
        scales = key.partition(".rope.")[2] in _SCALING and not key.startswith("gpt-oss.")
        if scales and (value := field.contents()) not in {"none", 0, 1}:
            scaled.append(f"{key} is {value}")
    if scaled:
        raise UsageError(
            f"{path} scales its rotary angles ({scaled[0]}), which cannot be converted for transformers; give the "
            "model's safetensors"
        )


def check_config(config: Any, name: str) -> None:
    """Refuse a configuration whose attention or experts implementation is not torch's own. Raises UsageError."""
    for key, known in _OWN.items():
        wanted = getattr(config, f"_{key}", None)
        if isinstance(wanted, Mapping) or wanted not in known:
            raise UsageError(
                f"the configuration of {name} has {key}={wanted!r:.100}, which may fetch code; remove {key} from its "
                "config.json"
            )


def _refuse_pickles(folder: Path, name: str, command: str) -> None:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UsageError(
            f"the weights of {name} are pickled ({pickles[0]}), and reading a pickle can run code; if you trust it, "
            f'convert it: python -c "{command.format(str(folder))}"'
        )
