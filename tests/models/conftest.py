"""A saved tiny base and an adapter of it."""

from pathlib import Path

import pytest

from adapters import saved_adapter, saved_base
from crosspatch.models.tiny import tiny_model


@pytest.fixture
def base(tmp_path) -> Path:
    return Path(saved_base(tmp_path / "base"))


@pytest.fixture
def adapter(tmp_path, base) -> Path:
    return Path(saved_adapter(tmp_path / "adapter", str(base), tiny_model("qwen3")))
