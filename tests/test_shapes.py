"""Shapes in the engine's annotations are checked in tests."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from crosspatch.patching.scores import delta


def test_the_engine_is_checked():
    tokens = torch.tensor([0, 1])
    assert delta(torch.eye(2), tokens, tokens).tolist() == [0, 0]
    with pytest.raises(TypeCheckError, match="delta"):
        delta(torch.eye(2), tokens, tokens[:1])
