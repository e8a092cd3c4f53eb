from __future__ import annotations

import copy
import pickle

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from evalsuite import quantize
from evalsuite.bits import BitPolicy
from evalsuite.quantization.grids.layers import (
    ActivationQuantizer,
    QuantConv2d,
    QuantLinear,
    QuantMatMul,
    TokenQuantizer,
    activation_quantizers,
)


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


def test_a_symmetric_activation_grid_is_signed_with_zero_in_its_middle():
    quantizer = ActivationQuantizer(4, symmetric=True)
    quantizer.set_range(torch.tensor(-0.5), torch.tensor(7.0))
    x = torch.linspace(-10, 10, 2001)
    assert int(quantizer.zero_point) == 0
    assert quantizer(x).unique().tolist() == list(range(-8, 8))


@pytest.mark.parametrize("symmetric", [True, False])
def test_each_token_has_the_range_of_its_own_extremes(symmetric):
    x = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 7)[:, None]
    quantizer = TokenQuantizer(5, symmetric)
    assert torch.equal(quantizer(x), x)
    quantizer.set_range(torch.tensor(-1.0), torch.tensor(1.0))
    out = quantizer(x)
    for image, tokens in enumerate(x):
        for position, token in enumerate(tokens):
            alone = ActivationQuantizer(5, symmetric)
            alone.set_range(token.min(), token.max())
            torch.testing.assert_close(out[image, position], alone(token))
    # What a token becomes does not hang on its neighbours.
    torch.testing.assert_close(quantizer(x[1:, 2:4]), out[1:, 2:4])


def test_a_restored_token_quantizer_rounds():
    quantizer, fresh = TokenQuantizer(3), TokenQuantizer(3)
    quantizer.set_range(torch.tensor(0.0), torch.tensor(1.0))
    fresh.load_state_dict(quantizer.state_dict())
    x = torch.randn(4, 9)
    assert torch.equal(fresh(x), quantizer(x))
    assert not torch.equal(fresh(x), x)
    assert "per token" in repr(fresh)


def test_tokens_without_extent_or_value_survive():
    quantizer = TokenQuantizer(4)
    quantizer.set_range(torch.tensor(0.0), torch.tensor(1.0))
    x = torch.tensor([[0.0, 0.0], [3.0, 3.0], [-2.0, -2.0]])
    torch.testing.assert_close(quantizer(x), x)


def test_a_gradient_passes_a_token_quantizer():
    quantizer = TokenQuantizer(4)
    quantizer.set_range(torch.tensor(0.0), torch.tensor(1.0))
    x = torch.randn(3, 8, requires_grad=True)
    quantizer(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_copies_pickles_and_loaded_states_round_alike():
    quantizer = ActivationQuantizer(3)
    quantizer.set_range(torch.tensor(-0.7), torch.tensor(1.3))
    x = torch.linspace(-2, 3, 200)
    expected = quantizer(x)
    fresh = ActivationQuantizer(3)
    fresh.load_state_dict(quantizer.state_dict())
    assigned = ActivationQuantizer(3)
    assigned.load_state_dict(quantizer.state_dict(), assign=True)
    for twin in (fresh, assigned, copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):
        assert torch.equal(twin(x), expected)
    fresh.load_state_dict(ActivationQuantizer(3).state_dict())
    assert torch.equal(fresh(x), x)
    quantizer.switch(False)
    assert torch.equal(quantizer(x), x)
    quantizer.switch(True)
    assert torch.equal(quantizer(x), expected)


def test_buffers_written_by_hand_count_after_a_refresh():
    quantizer = ActivationQuantizer(2)
    quantizer.scale.fill_(0.5)
    quantizer.zero_point.fill_(1)
    quantizer.calibrated.fill_(True)
    quantizer.refresh()
    assert quantizer(torch.tensor([-9.0, 0.6, 9.0])).tolist() == [-0.5, 0.5, 1.0]


class ScalarReads(TorchDispatchMode):
    """Counts how often a tensor's value is read into Python."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ == "_local_scalar_dense"
        return func(*args, **(kwargs or {}))


NETWORKS = {
    "cnn": (tiny_resnet, {}),
    "transformer": (tiny_transformer, {}),
    "per token": (tiny_transformer, {"per_token": True}),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_forward_reads_no_tensor_into_python(kind):
    build, options = NETWORKS[kind]
    x = random_images(4)
    twin = quantize(build(), x, method="rtn", **options)
    with torch.no_grad(), ScalarReads() as reads:
        twin(x)
    assert reads.count == 0


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_quantized_network_compiles_to_one_graph(kind):
    build, options = NETWORKS[kind]
    x = random_images(4)
    twin = quantize(build(), x, method="rtn", **options)
    compiled = torch.compile(twin, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), twin(x))


@pytest.mark.parametrize("kind", NETWORKS)
def test_shared_memory_changes_no_value_and_nobody_sees_it(kind):
    build, options = NETWORKS[kind]
    x = random_images(6)
    twin = quantize(build(), x, method="rtn", **options)
    expected = twin(x)  # with gradients on each result has memory of its own
    with torch.inference_mode():
        assert torch.equal(twin(x), expected)
    with torch.no_grad():
        assert torch.equal(twin(x[:2]), twin(x)[:2])
        assert torch.equal(twin(x.to(memory_format=torch.channels_last)), twin(x))
        kept = []
        handles = [
            one.register_forward_hook(lambda *call: kept.append(call)) for one in activation_quantizers(twin).values()
        ]
        assert torch.equal(twin(x), expected)
        for handle in handles:
            handle.remove()
        before = [output.clone() for _, _, output in kept]
        twin(-x)
        assert all(torch.equal(output, copy) for (_, _, output), copy in zip(kept, before, strict=True))
    twin(x).sum().backward()


def test_shared_memory_is_written_over_not_grown():
    layer = calibrated(QuantLinear(nn.Linear(8, 3), BitPolicy(8, 3)), torch.linspace(-1, 2, 8))
    with torch.no_grad():
        for rows in (5, 2, 7, 7):
            x = torch.randn(rows, 8)
            y = layer(x)
            assert torch.equal(y, nn.functional.linear(layer.input_quantizer(x), layer.weight, layer.bias))
        x = torch.randn(4, 8, dtype=torch.float64)
        assert torch.equal(layer.double()(x), nn.functional.linear(layer.input_quantizer(x), layer.weight, layer.bias))
