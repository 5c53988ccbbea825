"""The devices of a model's weights, weights of 8 or 4 bits, and what is refused."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from accelerate import cpu_offload, infer_auto_device_map

from adapters import saved_adapter
from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun
from crosspatch.models import placement
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import (
    device_names,
    input_device,
    is_offloaded,
    memory_of_devices,
    quantization_of,
    spread,
)
from crosspatch.models.tiny import tiny_model, tiny_tokenizer
from crosspatch.models.unembedding import last_logits, unembed
from crosspatch.models.weight_delta import weight_delta
from crosspatch.models.weights import fingerprint, weights_of
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.quick_check import quick_check
from crosspatch.settings_io import load_experiment, make_experiment

CPU = torch.device("cpu")


@pytest.fixture
def elsewhere():
    """A model whose weights are brought in when they are used."""
    return cpu_offload(tiny_model("qwen3"), execution_device=CPU)


def test_where_token_ids_belong(elsewhere):
    assert input_device(tiny_model("qwen3")) == CPU
    assert elsewhere.device.type == "meta"
    assert input_device(elsewhere) == CPU
    assert device_names(elsewhere) == "cpu until used"
    pair = ModelPair.of(elsewhere, tiny_model("qwen3", seed=1), tiny_tokenizer())
    assert "cpu until used" in pair._repr_html_()
    assert is_offloaded(elsewhere)
    assert not is_offloaded(tiny_model("qwen3"))


@pytest.mark.parametrize("float32", [False, True])
def test_weights_that_are_brought_in_are_the_same(elsewhere, float32):
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        assert last_logits(elsewhere, tokens).equal(last_logits(tiny_model("qwen3"), tokens))
    half, plain = cpu_offload(tiny_model("qwen3").bfloat16(), CPU), tiny_model("qwen3").bfloat16()
    hidden = torch.randn(3, 48, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.inference_mode():
        assert unembed(half, hidden, float32=float32).equal(unembed(plain, hidden, float32=float32))


def test_their_fingerprint_is_the_same(elsewhere):
    assert fingerprint(elsewhere) == fingerprint(tiny_model("qwen3")) != fingerprint(tiny_model("qwen3", seed=1))
    for name, weight in weights_of(elsewhere).items():
        assert weight.value().equal(tiny_model("qwen3").state_dict()[name])


@pytest.mark.parametrize("device_map", ["auto", "balanced", "sequential"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="would be spread")
def test_without_a_gpu_a_model_is_spread_over_the_cpu(base, adapter, device_map):
    for name in (base, adapter, "random:qwen3"):
        pair = ModelPair.load(str(base), str(name), device_map=device_map)
        assert device_names(pair.clean) == device_names(pair.corrupted) == "cpu"
    assert fingerprint(pair.clean) == fingerprint(tiny_model("qwen3"))


def test_memory_is_counted_in_bytes_for_each_gpu_and_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: ((number + 1) * 10_000_000_000, 0))
    free = memory_of_devices(None)
    assert (free[0], free[1]) == (9_000_000_000, 18_000_000_000)
    assert free["cpu"] > 0
    bounded = memory_of_devices(12)
    assert (bounded[0], bounded[1]) == (9_000_000_000, 12_000_000_000)


def test_blocks_are_spread_whole():
    """A block is never cut in two, wherever it goes."""
    model = tiny_model("llama")
    # A map for devices that are not there, which is only read.
    block = sum(weight.nbytes for weight in model.model.layers[0].parameters())
    places = infer_auto_device_map(
        model, max_memory={0: 5 * block, "cpu": 10**9}, no_split_module_classes=list(model._no_split_modules)
    )
    blocks = [name for name in places if name.startswith("model.layers")]
    assert {len(name.split(".")) for name in blocks} == {3}
    assert set(places.values()) == {0, "cpu"}
    assert spread(model, "auto", {"cpu": 10**9}) is model


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["models.device_map=auto", "models.device=cpu"], "models.device is cpu; leave one of them out"),
        (["models.device_map=auto", "models.corrupted_device=cuda:1"], "leave it or models.corrupted_device out"),
        (["models.max_memory_gb=3"], "is for models.device_map"),
        (["models.quantization=8bit"], "set models.dtype=float16, got float32"),
        (["models.quantization=2bit"], "quantization"),
        (["models.device_map=random"], "device_map"),
    ],
)
def test_settings_that_do_not_go_together(settings, words):
    with pytest.raises(UsageError, match=words) as error:
        make_experiment({}, settings)
    assert "\n" not in str(error.value)


def test_a_device_of_its_own_has_weights_of_its_own(base, adapter):
    pair = ModelPair.load(str(base), str(adapter), device="auto", corrupted_device="cpu")
    assert not hasattr(pair.corrupted, "peft_config")
    assert device_names(pair.corrupted) == "cpu"
    with pytest.raises(UsageError, match="device nonsense cannot be used"):
        ModelPair.load(str(base), str(adapter), corrupted_device="nonsense")


# Weights of 8 or 4 bits


def test_without_bitsandbytes_it_is_refused(monkeypatch):
    monkeypatch.setattr(placement.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs bitsandbytes, which is not installed; run: pip install") as error:
        ModelPair.load("random:qwen3", "random:qwen3", device="cpu", quantization="4bit")
    assert "\n" not in str(error.value)


def test_a_plain_model_is_not_quantised(qwen3_pair):
    assert quantization_of(qwen3_pair.clean) is None
    assert qwen3_pair.small_denominator == 1e-4


@pytest.fixture
def bitsandbytes():
    if importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("needs bitsandbytes")


@pytest.mark.usefixtures("bitsandbytes")
class TestQuantised:
    def test_8_bits_multiply_in_float16(self):
        with pytest.raises(UsageError, match=r"set models\.dtype=float16"):
            ModelPair.load("random:qwen3", "random:qwen3", device="cpu", quantization="8bit")

    def test_how_a_quantised_pair_is_described(self):
        pair = ModelPair.load("random:qwen3", "random:qwen3", device="cpu", dtype="float16", quantization="8bit")
        assert quantization_of(pair.clean) == quantization_of(pair.corrupted) == "8bit"
        assert pair.small_denominator == 1.0
        assert "float16, linear layers in 8bit" in pair._repr_html_()
        plain = Checkpoint.named("random:qwen3").model("float16", "cpu")
        assert len({fingerprint(model) for model in (pair.clean, pair.corrupted, plain)}) == 3
        assert quick_check(pair, patch_grid("all", 4)) is None

    def test_an_adapter_stands_beside_the_weights(self, tmp_path):
        adapter = saved_adapter(tmp_path / "adapter", "random:qwen3", tiny_model("qwen3"))
        options = {"device": "cpu", "dtype": "float16", "quantization": "8bit"}
        pair = ModelPair.load("random:qwen3", adapter, **options)
        assert hasattr(pair.corrupted, "peft_config")
        assert quantization_of(pair.corrupted) == "8bit"
        assert fingerprint(pair.corrupted) != fingerprint(pair.clean)
        assert quick_check(pair, patch_grid("all", 4)) is None
        moved = weight_delta(pair.clean, pair.corrupted, "corrupted")
        assert moved.filter(name="self_attn.q_proj")["delta_norm"].min() > 0
        assert moved.filter(name="input_layernorm")["delta_norm"].max() == 0

    def test_a_run_says_so(self, tmp_path):
        settings = ["quantization=8bit", "dtype=float16", "device=cpu", "corrupted=random:qwen3"]
        settings = [f"models.{setting}" for setting in settings]
        run = ExperimentRun.start(load_experiment("tiny", settings), tmp_path / "run")
        run.run("patch")
        models = json.loads(run.directory.record_file.read_text())["models"]
        assert {models[name]["quantization"] for name in ("clean", "corrupted")} == {"8bit"}
