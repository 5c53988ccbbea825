"""What a checkpoint's files may not do: hold pickles, bring code with them, or ask for code from elsewhere.

A pickle runs what it likes when it is read. Safetensors, JSON and GGUF files hold numbers and words; among the words
are some by which Hugging Face libraries would fetch or import code, and these are refused. Knows files only, no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crosspatch.errors import UsageError

ADAPTER = "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
# What is in torch itself; other names stand for packages, or for compiled code that is fetched from a hub.
ATTENTION = frozenset({None, "eager", "sdpa", "flex_attention"})
EXPERTS = frozenset({None, "eager", "batched_mm", "grouped_mm"})

# Settings of GGUF files that scale rotary angles, unless they are "none", 0 or 1.
_SCALING = frozenset(
    {"scaling.type", "scaling.factor", "scaling.alpha", "scaling.attn_factor", "scale_linear", "scale"}
)

_MODEL_BY_HAND = (
    "from transformers import AutoModelForCausalLM as M; "
    "M.from_pretrained({0!r}, use_safetensors=False, trust_remote_code=False).save_pretrained({0!r})"
)
_ADAPTER_BY_HAND = (
    "import torch; from safetensors.torch import save_file; "
    "save_file(torch.load({0!r} + '/adapter_model.bin', weights_only=True), {0!r} + '/adapter_model.safetensors')"
)


def check_weights(folder: Path, name: str) -> None:
    """Refuse a model's folder whose weights, or parts of them, are pickled. Raises UsageError."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        # Whatever ends otherwise would be unpickled, and a path would be followed.
        for part in _parts(index):
            if not isinstance(part, str) or Path(part).name != part or not part.endswith(".safetensors"):
                raise UsageError(
                    f"{index} names {part!r:.100} as a part of the weights, expected files such as "
                    "model-00001-of-00002.safetensors beside it"
                )
    elif not (folder / "model.safetensors").is_file():
        _refuse_pickles(folder, name, _MODEL_BY_HAND)


def check_adapter(folder: Path, name: str, settings: Mapping[str, Any]) -> None:
    """Refuse an adapter without safetensors, or whose settings name things to import or fetch. Raises UsageError."""
    if not (folder / ADAPTER).is_file():
        _refuse_pickles(folder, name, _ADAPTER_BY_HAND)
        # PEFT would look for a repository of the folder's name on the hub.
        raise UsageError(f"the adapter {name} could not be read: {ADAPTER} is missing")
    if settings.get("megatron_config") is not None:
        raise UsageError(
            f"{name}/adapter_config.json has megatron_config, by which PEFT imports a module that the file names; "
            "remove it, only parallel training needs it"
        )
    if str(settings.get("peft_type")).upper() == "XLORA":
        raise UsageError(f"{name} is an X-LoRA adapter, which fetches further adapters; expected one such as LoRA")


def check_gguf(path: Path) -> None:
    """Refuse a GGUF file whose rotary angles are scaled: the scaling is not read from it. Raises UsageError."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    factors = [tensor.name for tensor in reader.tensors if tensor.name.startswith(("rope_freqs", "rope_factors"))]
    if factors:
        raise UsageError(
            f"{path} scales its rotary angles by the tensor {factors[0]}, which cannot be carried over to Hugging "
            "Face; give the model's safetensors"
        )
    for key, field in reader.fields.items():
        # Of gpt-oss alone transformers reads the scaling.
        scales = key.partition(".rope.")[2] in _SCALING and not key.startswith("gpt-oss.")
        if scales and (value := field.contents()) not in {"none", 0, 1}:
            raise UsageError(
                f"{path} scales its rotary angles ({key} is {value}), which cannot be carried over to Hugging Face; "
                "give the model's safetensors"
            )


def check_config(config: Any, name: str) -> None:
    """Refuse a configuration that asks for other attention or experts than torch's own. Raises UsageError."""
    for what, key, known in (
        ("attention", "_attn_implementation", ATTENTION),
        ("experts", "_experts_implementation", EXPERTS),
    ):
        wanted = getattr(config, key, None)
        if isinstance(wanted, Mapping) or wanted not in known:
            raise UsageError(
                f"the configuration of {name} asks for {what} by {wanted!r:.100}, which may be code from elsewhere; "
                f"remove {key.removeprefix('_')} from its config.json"
            )


def _refuse_pickles(folder: Path, name: str, by_hand: str) -> None:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        command = by_hand.format(str(folder))
        raise UsageError(
            f"the weights of {name} are pickled ({pickles[0]}), and reading a pickle can run code; if you trust it, "
            f'convert it: python -c "{command}"'
        )


def _parts(index: Path) -> Iterator[Any]:
    try:
        files = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        yield from sorted(set(files.values()), key=str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{index} could not be read as the list of a model's parts: {type(error).__name__}") from None
