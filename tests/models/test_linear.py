"""Faster matrix products: the values of the model's own layers, only where they may stand in for these."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crosspatch.models.linear import fast_linear


class Doubled(nn.Linear):
    """Inherits from Linear and computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def model(kind: type[nn.Linear] = nn.Linear, bias: bool = True, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(kind(24, 40, bias=bias), nn.Tanh(), kind(40, 8, bias=bias)).to(dtype)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (7,), (130,), (1, 5), (2, 3), (1, 1)])
def test_values_are_those_of_the_layers(shape, bias):
    layers = model(bias=bias)
    x = torch.randn(*shape, 24)
    with torch.inference_mode():
        plain = layers(x)
        with fast_linear(layers):
            fast = layers(x)
    assert fast.shape == plain.shape
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


def test_it_is_really_another_product_and_only_within():
    layers = model()
    with torch.inference_mode():
        with fast_linear(layers):
            assert all("forward" in layer.__dict__ for layer in (layers[0], layers[2]))
        assert not any("forward" in layer.__dict__ for layer in layers)


def test_layers_come_back_when_something_fails_within():
    layers = model()
    with pytest.raises(ZeroDivisionError), torch.inference_mode(), fast_linear(layers):
        _ = 1 // 0
    assert not any("forward" in layer.__dict__ for layer in layers)


@pytest.mark.parametrize("other", [model(Doubled), model(dtype=torch.bfloat16)], ids=["inherits", "bfloat16"])
def test_what_is_not_plain_float32_is_left_alone(other):
    with torch.inference_mode(), fast_linear(other):
        assert not any("forward" in layer.__dict__ for layer in other)


def test_gradients_pass_as_ever():
    layers = model()
    x = torch.randn(3, 24, requires_grad=True)
    with fast_linear(layers):
        layers(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_a_forward_that_stood_on_the_layer_stays():
    layers = model()
    layers[0].forward = lambda x: torch.zeros(*x.shape[:-1], 40)
    with torch.inference_mode(), fast_linear(layers):
        assert layers[0](torch.randn(3, 24)).abs().sum() == 0
    assert "forward" in layers[0].__dict__
