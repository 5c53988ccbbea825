"""A pair on any devices gives the numbers of the CPU: `benchmarks/devices.py` with a GPU, and on two simulated ones."""

import copy
import importlib
from pathlib import Path

import pytest
import torch

from crosspatch.models.pair import ModelPair
from crosspatch.patching import batches
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from crosspatch.patching.two_stream.attention import PassAttention
from pairs import QUESTION, make_pair
from places import CPU, A, B, TwoDevices, place_of, placed, put_in_turn, put_whole

SIMULATED = {
    "qwen3, clean on one, corrupted on another": (lambda m: put_whole(m, A), lambda m: put_whole(m, B)),
    "qwen3, blocks of both in turn": (put_in_turn, put_in_turn),
    "gpt2, blocks of one in turn, the other on the CPU": (put_in_turn, lambda m: m),
}


@pytest.fixture(scope="module")
def devices():
    """The benchmark of devices, on a shorter text where there is no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TQDM_DISABLE", "1")
        patch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
        module = importlib.import_module("devices")
        if not torch.cuda.is_available():
            module.TEXT, module.GENERATED = module.TEXT[:6], 3
        yield module


@pytest.fixture(scope="module")
def saved(devices, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    clean, child, adapter = devices._saved(folder, "gpt2")
    return clean, child, adapter, devices.observed(ModelPair.load(clean, child, device="cpu"))


def beyond(devices, now, before) -> list:
    return [row for row in devices.compared("pair", now, before) if not row.holds]


@pytest.mark.parametrize("name", SIMULATED)
def test_a_pair_on_simulated_devices(devices, monkeypatch, name):
    pair = make_pair(name.split(",")[0], n_layers=2)
    before = devices.observed(pair)
    monkeypatch.setattr(batches, "free_memory", lambda device: 10**9)
    with TwoDevices():
        models = [
            put(copy.deepcopy(model)) for put, model in zip(SIMULATED[name], (pair.clean, pair.corrupted), strict=True)
        ]
        assert {place_of(weight) for model in models for weight in model.parameters()} - {CPU}
        assert not beyond(devices, devices.observed(ModelPair(*models, pair.prompts)), before)


def test_simulated_devices_fail_where_two_gpus_would(monkeypatch):
    with TwoDevices():
        on_a, on_b = placed(torch.ones(3), A), torch.ones(3, device=B)
        assert (on_a.device, on_b.device, (on_a + 1).device, on_a.to(on_b).device) == (A, B, A, B)
        with pytest.raises(RuntimeError, match="got tensors on cuda:0, cuda:1"):
            on_a + on_b
        with pytest.raises(RuntimeError, match="got tensors on cpu, cuda:0"):
            on_a * torch.ones(3)
        with pytest.raises(RuntimeError, match="got tensors on"):
            on_a[torch.tensor([0], device=B)]
        assert on_a[torch.tensor([0])].device == A
        assert (on_a + on_b.to(A)).cpu().tolist() == [2, 2, 2]

    # An index that isn't moved to a block's device.
    pair = make_pair("qwen3", n_layers=2)
    to_cache = PassAttention._to_cache
    monkeypatch.setattr(PassAttention, "_to_cache", lambda self, count, _: to_cache(self, count, self.packing.device))
    with TwoDevices():
        spread = ModelPair(put_in_turn(copy.deepcopy(pair.clean)), pair.corrupted, pair.prompts)
        with pytest.raises(RuntimeError, match="got tensors on cuda:0, cuda:1"):
            score_tokens(spread, pair.encode(QUESTION), [5, 6, 7], patch_grid("all", 2), PatchRun())


def test_weights_that_are_loaded_when_used_are_the_same_and_another_pair_is_noticed(devices, saved):
    clean, child, adapter, before = saved
    pair = ModelPair.load(clean, child, device="cpu")
    elsewhere = ModelPair.of(*map(devices._until_used("cpu"), (pair.clean, pair.corrupted)), pair.prompts.tokenizer)
    assert {weight.device.type for weight in elsewhere.clean.parameters()} == {"meta"}
    assert not beyond(devices, devices.observed(elsewhere), before)
    found = beyond(devices, devices.observed(ModelPair.load(clean, adapter, device="cpu")), before)
    assert {"scores along a text, corrupt", "fingerprints"} <= {row.what for row in found}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_gpus(devices, saved):
    clean, child, adapter, before = saved
    places = list(devices.placed(clean, child).items())
    # The last two need two GPUs.
    for name, load in places if torch.cuda.device_count() > 1 else places[:7]:
        assert not beyond(devices, devices.observed(load()), before), name
    merged = devices.observed(ModelPair.load(clean, adapter, device="cpu", share_base=False))
    assert not beyond(devices, devices.observed(ModelPair.load(clean, adapter, device="cuda")), merged)
