"""Pairs on two devices that are not there: nothing meets across them, and the numbers are those of the CPU."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from crosspatch.models.pair import ModelPair
from crosspatch.patching import batches
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from crosspatch.patching.two_stream.packing import Packing
from pairs import QUESTION, make_pair
from places import CPU, A, B, place_of, placed, put_in_turn, put_whole, two_devices

PLACES = {
    "qwen3, clean on one, corrupted on another": (lambda m: put_whole(m, A), lambda m: put_whole(m, B)),
    "qwen3, blocks of both in turn": (put_in_turn, put_in_turn),
    "gpt2, blocks of one in turn, the other on the CPU": (put_in_turn, lambda m: m),
}


@pytest.fixture(scope="module")
def devices():
    """The benchmark of devices."""
    path = Path(__file__).parent.parent / "benchmarks" / "devices.py"
    spec = importlib.util.spec_from_file_location("devices_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # Frozen dataclasses look their module up.
        patch.setitem(sys.modules, "devices_benchmark", module)
        spec.loader.exec_module(module)
        # Every operation costs more here.
        module.TEXT, module.GENERATED = module.TEXT[:6], 3
        yield module


@pytest.mark.parametrize("name", PLACES)
def test_what_is_measured_is_the_same(devices, monkeypatch, name):
    pair = make_pair(name.split(",")[0], n_layers=2)
    before = devices.observed(pair)
    monkeypatch.setattr(batches, "free_memory", lambda device: 10**9)
    on_clean, on_corrupted = PLACES[name]
    with two_devices():
        elsewhere = ModelPair(
            on_clean(copy.deepcopy(pair.clean)), on_corrupted(copy.deepcopy(pair.corrupted)), pair.prompts
        )
        places = {place_of(weight) for model in (elsewhere.clean, elsewhere.corrupted) for weight in model.parameters()}
        assert len(places - {CPU}) >= 1
        now = devices.observed(elsewhere)
    assert not [row for row in devices.compared(name, now, before) if not row.holds]


def test_what_lies_elsewhere_does_not_meet():
    """What would fail on two GPUs fails on these."""
    with two_devices():
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


def test_an_index_on_the_wrong_device_is_noticed(monkeypatch):
    """As it was before blocks were asked where they stand."""
    pair = make_pair("qwen3", n_layers=2)
    monkeypatch.setattr(Packing, "on", lambda self, device: self)
    with two_devices():
        spread = ModelPair(put_in_turn(copy.deepcopy(pair.clean)), pair.corrupted, pair.prompts)
        with pytest.raises(RuntimeError, match="got tensors on cuda:0, cuda:1"):
            score_tokens(spread, pair.encode(QUESTION), [5, 6, 7], patch_grid("all", 2), PatchRun())
