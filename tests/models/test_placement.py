"""The devices of a model's weights, weights of 8 or 4 bits, and what is refused."""

import copy
import importlib.util
import json

import pytest
import torch
from accelerate import cpu_offload

from adapters import saved_adapter
from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun
from crosspatch.models import placement
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import device_names, input_device, is_offloaded, memory_of_devices, quantization_of
from crosspatch.models.tiny import tiny_model, tiny_tokenizer
from crosspatch.models.unembedding import last_logits, unembed
from crosspatch.models.weight_delta import weight_delta
from crosspatch.models.weights import fingerprint, weights_of
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.quick_check import quick_check
from crosspatch.settings_io import load_experiment
from pairs import child_of

CPU = torch.device("cpu")


def test_a_model_whose_weights_are_loaded_when_used_is_the_same_model():
    plain, half = tiny_model("qwen3"), tiny_model("qwen3").bfloat16()
    elsewhere, half_elsewhere = (cpu_offload(copy.deepcopy(model), execution_device=CPU) for model in (plain, half))
    assert elsewhere.device.type == "meta"
    assert input_device(elsewhere) == input_device(plain) == CPU
    assert is_offloaded(elsewhere)
    assert not is_offloaded(plain)
    assert device_names(elsewhere) == "cpu until used"
    other = tiny_model("qwen3", seed=1)
    assert "cpu until used" in ModelPair.of(elsewhere, other, tiny_tokenizer())._repr_html_()
    assert fingerprint(elsewhere) == fingerprint(plain)
    assert len({fingerprint(model) for model in (plain, other, child_of(plain, scale=1e-4))}) == 3
    assert all(weight.value().equal(plain.state_dict()[name]) for name, weight in weights_of(elsewhere).items())
    tokens = torch.arange(20)[None]
    hidden = torch.randn(3, 48, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.inference_mode():
        assert last_logits(elsewhere, tokens).equal(last_logits(plain, tokens))
        for float32 in (False, True):
            expected = unembed(half, hidden, float32=float32)
            assert unembed(half_elsewhere, hidden, float32=float32).equal(expected)


@pytest.mark.parametrize("device_map", ["auto", "balanced", "sequential"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="would be spread")
def test_without_a_gpu_a_model_is_spread_over_the_cpu(base, adapter, device_map):
    child = {"auto": base, "balanced": adapter, "sequential": "random:qwen3"}[device_map]
    pair = ModelPair.load(str(base), str(child), device_map=device_map)
    assert device_names(pair.clean) == device_names(pair.corrupted) == "cpu"
    assert fingerprint(pair.clean) == fingerprint(tiny_model("qwen3"))


def test_blocks_are_spread_whole(monkeypatch):
    model = tiny_model("llama")
    block = sum(weight.nbytes for weight in model.model.layers[0].parameters())
    monkeypatch.setattr("accelerate.dispatch_model", lambda model, places, **_: places)
    places = placement.spread(model, "sequential", {0: 5 * block, "cpu": 10**9})
    assert {name.count(".") for name in places if name.startswith("model.layers")} == {2}
    assert set(places.values()) == {0, "cpu"}


def test_memory_is_counted_in_bytes_for_each_gpu_and_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: ((number + 1) * 10_000_000_000, 0))
    for bound, of_second in ((None, 18_000_000_000), (12, 12_000_000_000)):
        memory = memory_of_devices(bound)
        assert (memory[0], memory[1]) == (9_000_000_000, of_second)
        assert memory["cpu"] > 0


def test_a_device_of_its_own_has_weights_of_its_own_and_what_is_refused(base, adapter, monkeypatch, qwen3_pair):
    pair = ModelPair.load(str(base), str(adapter), device="auto", corrupted_device="cpu")
    assert not hasattr(pair.corrupted, "peft_config")
    assert device_names(pair.corrupted) == "cpu"
    with pytest.raises(UsageError, match="device nonsense cannot be used"):
        ModelPair.load(str(base), str(adapter), corrupted_device="nonsense")
    # Without bitsandbytes.
    assert quantization_of(qwen3_pair.clean) is None
    assert qwen3_pair.small_denominator == 1e-4
    monkeypatch.setattr(placement.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs bitsandbytes, which is not installed; run: pip install") as error:
        ModelPair.load("random:qwen3", "random:qwen3", device="cpu", quantization="4bit")
    assert "\n" not in str(error.value)


needs_bitsandbytes = pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="needs bitsandbytes")


@needs_bitsandbytes
def test_a_quantised_pair_and_an_adapter_beside_quantised_weights(tmp_path):
    with pytest.raises(UsageError, match=r"set models\.dtype=float16"):
        ModelPair.load("random:qwen3", "random:qwen3", device="cpu", quantization="8bit")
    adapter = saved_adapter(tmp_path / "adapter", "random:qwen3", tiny_model("qwen3"))
    options = {"device": "cpu", "dtype": "float16", "quantization": "8bit"}
    pairs = pair, adapted = [ModelPair.load("random:qwen3", child, **options) for child in ("random:qwen3", adapter)]
    for each in pairs:
        assert quantization_of(each.clean) == quantization_of(each.corrupted) == "8bit"
        assert quick_check(each, patch_grid("all", 4)) is None
        plain = Checkpoint.named("random:qwen3").model("float16", "cpu")
        assert len({fingerprint(model) for model in (each.clean, each.corrupted, plain)}) == 3
    assert pair.small_denominator == 1.0
    assert "float16, linear layers in 8bit" in pair._repr_html_()
    assert hasattr(adapted.corrupted, "peft_config")
    moved = weight_delta(adapted.clean, adapted.corrupted, "corrupted")
    assert moved.filter(name="self_attn.q_proj")["delta_norm"].min() > 0
    assert moved.filter(name="input_layernorm")["delta_norm"].max() == 0


@needs_bitsandbytes
def test_a_run_records_its_quantisation(tmp_path):
    values = ("quantization=8bit", "dtype=float16", "device=cpu", "corrupted=random:qwen3")
    settings = [f"models.{value}" for value in values]
    run = ExperimentRun.start(load_experiment("tiny", settings), tmp_path / "run")
    run.run("patch")
    models = json.loads(run.directory.record_file.read_text())["models"]
    assert {models[name]["quantization"] for name in ("clean", "corrupted")} == {"8bit"}
