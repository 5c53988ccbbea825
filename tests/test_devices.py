"""A pair in other places is the pair on the CPU: `benchmarks/devices.py`, with a GPU and without one."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from crosspatch.models.pair import ModelPair


@pytest.fixture(scope="module")
def devices():
    path = Path(__file__).parent.parent / "benchmarks" / "devices.py"
    spec = importlib.util.spec_from_file_location("devices", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["devices"] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TQDM_DISABLE", "1")
        spec.loader.exec_module(module)
        if not torch.cuda.is_available():
            # Weights that are brought in are read for each layer of each pass.
            module.TEXT, module.GENERATED = module.TEXT[:12], 4
        yield module
    del sys.modules["devices"]


@pytest.fixture(scope="module")
def saved(devices, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    clean, child, adapter = devices._saved(folder, "gpt2")
    return clean, child, adapter, devices.observed(ModelPair.load(clean, child, device="cpu"))


def beyond(devices, now, before) -> list:
    return [row for row in devices.compared("pair", now, before) if not row.holds]


def test_weights_that_are_brought_in_when_used(devices, saved):
    clean, child, _, before = saved
    pair = ModelPair.load(clean, child, device="cpu")
    elsewhere = ModelPair.of(*map(devices._until_used("cpu"), (pair.clean, pair.corrupted)), pair.prompts.tokenizer)
    assert {weight.device.type for weight in elsewhere.clean.parameters()} == {"meta"}
    assert not beyond(devices, devices.observed(elsewhere), before)


def test_another_pair_is_noticed(devices, saved):
    clean, _, adapter, before = saved
    found = beyond(devices, devices.observed(ModelPair.load(clean, adapter, device="cpu")), before)
    assert {"scores along a text, corrupt", "fingerprints"} <= {row.what for row in found}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("place", range(7))
def test_on_a_gpu(devices, saved, place):
    clean, child, _, before = saved
    name, load = list(devices.placed(clean, child).items())[place]
    assert not beyond(devices, devices.observed(load()), before), name


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("place", [7, 8])
def test_on_two_gpus(devices, saved, place):
    test_on_a_gpu(devices, saved, place)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_adapter_on_the_base_of_a_gpu(devices, saved):
    clean, _, adapter, _ = saved
    merged = devices.observed(ModelPair.load(clean, adapter, device="cpu", share_base=False))
    assert not beyond(devices, devices.observed(partial(ModelPair.load, clean, adapter, device="cuda")()), merged)
