"""What a checkpoint's files may not do: hold pickles, bring code, ask for code from elsewhere."""

import json
import shlex
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapters import changed_settings
from crosspatch.errors import UsageError
from crosspatch.models.chat import PromptFormat
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.safe_loading import check_gguf
from crosspatch.models.smollm2 import convert_gguf
from crosspatch.models.tiny import tiny_model
from crosspatch.models.weights import fingerprint

# It runs as soon as the file is imported, whether or not the class that is named is in it.
CODE = "__import__('pathlib').Path({!r}).write_text('ran')"


class Canary:
    """A pickle that writes a file where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


def refused(name: str, words: str) -> str:
    with pytest.raises(UsageError, match=words) as error:
        ModelPair.load("random:qwen3", name, device="cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def canary(tmp_path) -> Path:
    """A file that exists only once code of a checkpoint has run."""
    return tmp_path / "canary"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "consolidated.00.ckpt"])
def test_pickled_weights_are_not_read(base, canary, name):
    for file in (name, "training_args.bin"):
        torch.save(Canary(canary), base / file)
    # Beside safetensors they are left alone.
    ModelPair.load("random:qwen3", str(base), device="cpu")
    (base / "training_args.bin").unlink()
    (base / "model.safetensors").unlink()
    message = refused(str(base), "reading a pickle can run code; if you trust it, convert it: python -c")
    assert name in message
    assert not canary.exists()
    # The control: reading the pickle runs code.
    torch.load(base / name, weights_only=False)
    assert canary.exists()


def test_a_pickled_adapter_is_not_read_nor_one_looked_for_on_the_hub(adapter, canary, monkeypatch):
    """PEFT takes the folder's name for a repository's where its weights are missing."""
    (adapter / "adapter_model.safetensors").unlink()
    monkeypatch.chdir(adapter.parent.parent)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("the hub was asked"))
    refused(f"{adapter.parent.name}/adapter", "adapter_model.safetensors is missing")
    torch.save(Canary(canary), adapter / "adapter_model.bin")
    refused(str(adapter), "convert it: python -c .*adapter_model.bin")
    assert not canary.exists()


@pytest.mark.parametrize("part", ["pytorch_model.bin", "../other.safetensors", "/etc/passwd", 3])
def test_an_index_cannot_name_other_files(base, canary, part):
    (base / "model.safetensors").unlink()
    torch.save(Canary(canary), base / "pytorch_model.bin")
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"a": part}}))
    refused(str(base), "as a part of the weights, expected files such as")
    (base / "model.safetensors.index.json").write_text("[]")
    refused(str(base), "could not be read")
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_the_way_to_convert_works_for_models_and_adapters(request, kind):
    folder = request.getfixturevalue(kind)
    safe, pickled = ("model", "pytorch_model") if kind == "base" else ("adapter_model", "adapter_model")
    before = fingerprint(Checkpoint.named(str(folder)).model(device="cpu"))
    torch.save(load_file(folder / f"{safe}.safetensors"), folder / f"{pickled}.bin")
    (folder / f"{safe}.safetensors").unlink()
    # Split as a shell would split it.
    python, option, code = shlex.split(refused(str(folder), "convert it").partition("convert it: ")[2])
    assert (python, option) == ("python", "-c")
    exec(code, {})
    assert fingerprint(Checkpoint.named(str(folder)).model(device="cpu")) == before


@pytest.mark.parametrize("known", [True, False])
def test_code_in_a_folder_is_not_run(base, canary, monkeypatch, known):
    """Neither for a model that is known, nor for one that only its own code could read; and the user is not asked."""
    for name in ("configuration_hostile", "modeling_hostile", "tokenization_hostile"):
        (base / f"{name}.py").write_text(CODE.format(str(canary)))
    classes = {"AutoConfig": "configuration_hostile.Hostile", "AutoModelForCausalLM": "modeling_hostile.HostileModel"}
    classes["AutoTokenizer"] = ["tokenization_hostile.HostileTokenizer"] * 2
    asking = {"auto_map": classes, "trust_remote_code": True}
    changed_settings(base, "config.json", **asking, **({} if known else {"model_type": "hostile"}))
    changed_settings(base, "tokenizer_config.json", **asking)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    if known:
        assert fingerprint(Checkpoint.named(str(base)).model(device="cpu")) == fingerprint(tiny_model("qwen3"))
        Checkpoint.named(str(base)).tokenizer()
    else:
        refused(str(base), "could not be read")
    assert not canary.exists()
    # The control: the code writes the file when it runs.
    exec(CODE.format(str(canary)))
    assert canary.exists()


def test_attention_from_elsewhere_is_refused_and_torchs_own_is_not(base):
    flash, paged = "kernels-community/flash-attn3", "paged|somebody/attention:forward"
    for value in ("somebody/attention", flash, "flash_attention_2", paged):
        changed_settings(base, "config.json", attn_implementation=value)
        assert value in refused(str(base), "which may fetch code; remove")
    changed_settings(base, "config.json", attn_implementation="eager", experts_implementation="somebody/experts")
    assert "somebody/experts" in refused(str(base), "which may fetch code; remove")
    changed_settings(base, "config.json", attn_implementation="eager", experts_implementation=None)
    assert Checkpoint.named(str(base)).model(device="cpu").config._attn_implementation == "eager"


def test_an_adapter_cannot_name_a_module_to_import(base, adapter, canary, tmp_path, monkeypatch):
    (tmp_path / "hostile_core.py").write_text(CODE.format(str(canary)))
    monkeypatch.syspath_prepend(str(tmp_path))
    changed_settings(adapter, megatron_config={}, megatron_core="hostile_core")
    refused(str(adapter), "remove it, only parallel training needs it")
    auto = {"base_model_class": "Hostile", "parent_library": "hostile_core"}
    changed_settings(adapter, megatron_config=None, auto_mapping=auto)
    for share_base in (True, False):
        ModelPair.load(str(base), str(adapter), device="cpu", share_base=share_base)
    assert not canary.exists()
    changed_settings(adapter, peft_type="XLORA", adapters={"a": "somebody/adapter"})
    refused(str(adapter), "downloads further adapters")


@pytest.mark.parametrize("named", ["/no/such/folder", "../../elsewhere/deep", "a/b/c", "", 7, None, ["x"]])
def test_a_base_that_is_no_model_is_one_line(adapter, named):
    changed_settings(adapter, base_model_name_or_path=named)
    refused(str(adapter), "no model folder|does not name its base")


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_chat_template_stays_in_its_sandbox(base, canary, monkeypatch, template):
    (base / "chat_template.jinja").write_text(template)
    monkeypatch.chdir(canary.parent)
    with pytest.raises(UsageError, match=r"\A.*the chat template refuses the prompt.*\Z"):
        PromptFormat(Checkpoint.named(str(base)).tokenizer()).encode("Solve for x: 5x + 3 = 18")
    assert not canary.exists()


def written_gguf(folder: Path, architecture: str = "llama", *, tensor: str = "token_embd.weight", **settings) -> Path:
    """A GGUF file with some settings of its architecture, dots as double underscores."""
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in settings.items():
        add = writer.add_string if isinstance(value, str) else writer.add_float32
        add(f"{architecture}.{key.replace('__', '.')}", value)
    writer.add_tensor(tensor, np.ones((2, 2), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 8.0}, r"rope\.scaling\.type is linear"),
        ({"rope__scaling__factor": 4.0}, r"rope\.scaling\.factor is 4\.0"),
        ({"rope__scaling__attn_factor": 1.2}, "attn_factor"),
        ({"rope__scale_linear": 2.0}, "scale_linear is 2"),
        ({"tensor": "rope_freqs.weight"}, r"tensor rope_freqs\.weight"),
        ({"tensor": "rope_factors_long.weight", "architecture": "phi3"}, "rope_factors_long"),
        ({"architecture": "gemma3", "rope__scaling__type": "yarn"}, r"gemma3\.rope\.scaling\.type is yarn"),
    ],
)
def test_scaled_rotary_angles_are_refused(tmp_path, settings, words):
    path = written_gguf(tmp_path, **settings)
    checkpoint = Checkpoint.named(str(path))
    for read in (checkpoint.config, checkpoint.model, lambda: convert_gguf(path, tmp_path / "folder")):
        with pytest.raises(UsageError, match=words) as refused:
            read()
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "folder").exists()


def test_other_gguf_files_are_not_refused(tmp_path):
    check_gguf(written_gguf(tmp_path))
    check_gguf(written_gguf(tmp_path, rope__scaling__type="none", rope__freq_base=10000.0))
    check_gguf(written_gguf(tmp_path, rope__scaling__factor=1.0, rope__scaling__yarn_beta_fast=32.0))
    # Of this one transformers reads the scaling.
    check_gguf(written_gguf(tmp_path, "gpt-oss", rope__scaling__type="yarn", rope__scaling__factor=32.0))
