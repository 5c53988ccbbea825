"""Logits out of hidden states, by the model's own head; and the faster products, which give the same."""

from __future__ import annotations

import pytest
import torch

from architectures import ARCHITECTURES, tiny_architecture
from crosspatch.models.unembedding import unembed
from engines import hooks_and_forwards

TOKENS = torch.tensor([[5, 17, 301, 44, 9, 120]])


@torch.inference_mode()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_is_the_models_own_head(name):
    """Soft caps, scales and biases included."""
    model = tiny_architecture(name)
    whole = model(TOKENS, use_cache=False).logits[0]
    hidden = model.base_model(TOKENS, use_cache=False)[0][0]
    torch.testing.assert_close(unembed(model, hidden), whole, atol=1e-5, rtol=0)
    # A few at a time, in any order.
    torch.testing.assert_close(unembed(model, hidden[[4, 1]]), whole[[4, 1]], atol=1e-5, rtol=0)
    assert hooks_and_forwards(model) == 0


@torch.inference_mode()
def test_in_float32_the_sums_are_not_rounded():
    model = tiny_architecture("llama").bfloat16()
    hidden = model.base_model(TOKENS, use_cache=False)[0][0]
    rough, fine = unembed(model, hidden), unembed(model, hidden, float32=True)
    exact = hidden.double() @ model.lm_head.weight.double().T
    assert (fine - exact).abs().max() < 1e-4
    assert (rough - exact).abs().max() > 1e-3
    assert rough.dtype == fine.dtype == torch.float32
    assert hooks_and_forwards(model) == 0
