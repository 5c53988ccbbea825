"""Where a model's weights lie, and what is asked for where it cannot be."""

from __future__ import annotations

import pytest
import torch
from accelerate import cpu_offload

from adapters import saved_adapter, saved_base
from crosspatch.errors import UsageError
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import device_names, input_device, is_offloaded, memory_of_devices, spread
from crosspatch.models.tiny import tiny_model
from crosspatch.models.unembedding import last_logits, unembed
from crosspatch.models.weights import fingerprint, weights_of
from crosspatch.settings_io import make_experiment

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


def test_a_card_tells_the_devices(elsewhere, qwen3_pair):
    card = ModelPair(elsewhere, qwen3_pair.corrupted, qwen3_pair.prompts)._repr_html_()
    assert "cpu until used" in card


@pytest.mark.parametrize("device_map", ["auto", "balanced", "sequential"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="would be spread")
def test_without_a_gpu_a_model_is_spread_over_the_cpu(tmp_path, device_map):
    base = saved_base(tmp_path / "base")
    for name in (base, saved_adapter(tmp_path / "adapter", base, tiny_model("qwen3")), "random:qwen3"):
        pair = ModelPair.load(base, name, device_map=device_map)
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
    # A map for devices that are not there: only looked at.
    from accelerate import infer_auto_device_map

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


def test_a_device_of_its_own_has_weights_of_its_own(tmp_path):
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(tmp_path / "adapter", base, tiny_model("qwen3"))
    pair = ModelPair.load(base, adapter, device="auto", corrupted_device="cpu")
    assert not hasattr(pair.corrupted, "peft_config")
    assert device_names(pair.corrupted) == "cpu"
    with pytest.raises(UsageError, match="device nonsense cannot be used"):
        ModelPair.load(base, adapter, corrupted_device="nonsense")
