"""Weights of 8 or 4 bits: refused where they cannot be, and told where they are."""

from __future__ import annotations

import importlib.util
import json

import pytest

from adapters import saved_adapter
from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun
from crosspatch.models import placement
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import quantization_of
from crosspatch.models.tiny import tiny_model
from crosspatch.models.weight_delta import weight_delta
from crosspatch.models.weights import fingerprint
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.quick_check import quick_check
from crosspatch.settings_io import load_experiment


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

    def test_what_is_told_of_it(self):
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
        settings = [
            "models.quantization=8bit",
            "models.dtype=float16",
            "models.device=cpu",
            "models.corrupted=random:qwen3",
        ]
        run = ExperimentRun.start(load_experiment("tiny", settings), tmp_path / "run")
        run.run("patch")
        models = json.loads(run.directory.record_file.read_text())["models"]
        assert {models[name]["quantization"] for name in ("clean", "corrupted")} == {"8bit"}
