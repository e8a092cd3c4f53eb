from __future__ import annotations

import pytest
import torch
from torch import nn

from evalsuite.quantization.modules import ActivationQuantizer, QuantConv2d, QuantLinear, QuantMatMul
from evalsuite.quantization.policy import BitPolicy


def conv(**options) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3, **options)


def calibrated(layer, x):
    rows = layer.rows()
    layer.set_weight_range(rows.amin(1), rows.amax(1))
    layer.round_weight()
    layer.input_quantizer.set_range(x.min(), x.max())
    return layer


def test_an_uncalibrated_layer_computes_what_the_layer_does():
    x = torch.randn(2, 4, 9, 9)
    for options in (
        {"stride": 2},
        {"padding": 2, "dilation": 2, "bias": False},
        {"padding": 1, "padding_mode": "circular"},
        {"groups": 2},
    ):
        layer = conv(**options).eval()
        twin = QuantConv2d(layer, BitPolicy(4, 4))
        assert torch.equal(twin(x), layer(x))
        assert isinstance(twin, nn.Conv2d)
        assert twin.weight is not layer.weight
        assert not twin.training
    linear = nn.Linear(9, 3)
    assert torch.equal(QuantLinear(linear, BitPolicy())(x), linear(x))


def test_building_a_layer_draws_no_random_number():
    layer = conv()
    state = torch.random.get_rng_state()
    QuantConv2d(layer, BitPolicy())
    QuantLinear(nn.Linear(2, 2, device="meta"), BitPolicy())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_integers_scale_and_zero_point_give_the_weight(per_channel, symmetric, bits):
    policy = BitPolicy(bits, 8, per_channel=per_channel, symmetric=symmetric)
    layer = calibrated(QuantConv2d(conv(), policy), torch.randn(9))
    q = layer.integer_weight()
    low, high = layer.integers
    assert q.dtype == torch.int32
    assert low <= q.min() <= q.max() <= high
    assert q.shape == layer.weight.shape
    assert len(layer.weight_scale) == (6 if per_channel else 1)
    broadcast = (-1, 1, 1, 1)
    real = (q - layer.weight_zero_point.reshape(broadcast)) * layer.weight_scale.reshape(broadcast)
    assert torch.equal(real, layer.weight)
    for row in layer.rows():
        assert len(row.unique()) <= 2**bits
    if symmetric:
        assert (layer.weight_zero_point == 0).all()
    before = layer.weight.clone()
    layer.round_weight()
    assert torch.equal(layer.weight, before)


def test_a_quantized_layer_rounds_its_input():
    x = torch.linspace(-1, 2, 432).reshape(3, 4, 6, 6)
    layer = calibrated(QuantConv2d(conv(), BitPolicy(8, 2)), x)
    rounded = layer.input_quantizer(x)
    assert len(rounded.unique()) == 4
    torch.testing.assert_close(layer(x), nn.functional.conv2d(rounded, layer.weight, layer.bias))


def test_a_product_rounds_both_sides():
    a, b = torch.rand(2, 3, 5, 7), torch.linspace(-1, 2, 168).reshape(2, 3, 7, 4)
    product = QuantMatMul(3)
    assert torch.equal(product(a, b), a @ b)
    product.left.set_range(a.min(), a.max())
    product.right.set_range(b.min(), b.max())
    torch.testing.assert_close(product(a, b), product.left(a) @ product.right(b))
    assert 0 <= product.left(a).min() <= product.left(a).max() <= 1
    assert len(product.right(b).unique()) == 8


def test_a_rounded_weight_is_not_trained_but_gradients_pass():
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    layer = calibrated(QuantConv2d(conv(), BitPolicy(4, 4)), x.detach())
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
    assert (x.grad != 0).any()


def test_an_observer_sees_inputs_and_stops_rounding():
    quantizer = ActivationQuantizer(2)
    quantizer.set_range(torch.tensor(-1.0), torch.tensor(1.0))
    x = torch.randn(50)
    seen = []
    quantizer.observer = seen.append
    assert torch.equal(quantizer(x), x)
    quantizer.observer = None
    assert not torch.equal(quantizer(x), x)
    assert len(seen) == 1
    assert seen[0] is x


def test_state_and_description():
    x = torch.randn(2, 4, 6, 6)
    layer = calibrated(QuantConv2d(conv(), BitPolicy(3, 5)), x)
    fresh = QuantConv2d(conv(), BitPolicy(3, 5))
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), layer(x))
    assert "weight_bits=3" in repr(layer)
    assert "bits=5" in repr(layer)
    assert "weight_bits=8" in repr(QuantLinear(nn.Linear(2, 2), BitPolicy()))
