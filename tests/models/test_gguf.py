"""GGUF files whose rotary angles would come out differently are refused; SmolLM2's is not."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from crosspatch.errors import UsageError
from crosspatch.models.loading import Checkpoint
from crosspatch.models.safe_loading import check_gguf
from crosspatch.models.smollm2 import convert_gguf


def written(folder: Path, architecture: str = "llama", *, tensor: str | None = None, **settings: object) -> Path:
    """A GGUF file with some settings of its architecture, dots as double underscores."""
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in settings.items():
        name = f"{architecture}.{key.replace('__', '.')}"
        if isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_float32(name, value)
    writer.add_tensor(tensor or "token_embd.weight", np.ones((2, 2), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 8.0}, r"rope\.scaling\.type is linear"),
        ({"rope__scaling__type": "yarn"}, "is yarn"),
        ({"rope__scaling__factor": 4.0}, r"rope\.scaling\.factor is 4\.0"),
        ({"rope__scaling__attn_factor": 1.2}, "attn_factor"),
        ({"rope__scale_linear": 2.0}, "scale_linear is 2"),
        ({"tensor": "rope_freqs.weight"}, r"tensor rope_freqs\.weight"),
        ({"tensor": "rope_factors_long.weight", "architecture": "phi3"}, "rope_factors_long"),
        ({"architecture": "gemma3", "rope__scaling__type": "linear"}, r"gemma3\.rope\.scaling\.type"),
    ],
)
def test_scaled_rotary_angles_are_refused(tmp_path, settings, words):
    path = written(tmp_path, **settings)
    for read in (Checkpoint.named(str(path)).config, Checkpoint.named(str(path)).model):
        with pytest.raises(UsageError, match=words) as refused:
            read()
        assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match=words):
        convert_gguf(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rope__scaling__type": "none", "rope__freq_base": 10000.0, "rope__scaling__original_context_length": 4096.0},
        {"rope__scaling__factor": 1.0, "rope__scaling__yarn_beta_fast": 32.0},
        # Of this one transformers reads the scaling.
        {"architecture": "gpt-oss", "rope__scaling__type": "yarn", "rope__scaling__factor": 32.0},
    ],
)
def test_others_are_not(tmp_path, settings):
    check_gguf(written(tmp_path, **settings))
