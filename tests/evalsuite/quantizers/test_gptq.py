from __future__ import annotations

import copy

import pytest
import torch
from _dummies.capture import outputs_of
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, RequestError, own_warnings
from evalsuite.quantization.grids.layers import QuantConv2d, QuantLinear, quantized_layers
from evalsuite.quantization.grids.range_setting import set_weight_ranges
from evalsuite.quantization.grids.ranges import MinMax
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantizers.gptq import GPTQ, hessian_of, second_order_rounding
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import torch_generator
from evalsuite.structure import describe

X = random_images(32)


def linear(n: int, out: int = 6, bits: int = 3, **policy) -> QuantLinear:
    torch.manual_seed(0)
    layer = QuantLinear(nn.Linear(n, out), BitPolicy(bits, 8, **policy))
    set_weight_ranges(layer, MinMax())
    return layer


def correlated(n: int, count: int = 400, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, n, generator=generator) @ torch.randn(n, n, generator=generator).cumsum(1)


def hessian(x: torch.Tensor) -> torch.Tensor:
    return 2 * (x.T @ x).double()[None] / len(x)


def real(layer, integers: torch.Tensor) -> torch.Tensor:
    rows = integers.reshape(len(layer.weight_scale), -1)
    return ((rows - layer.weight_zero_point[:, None]) * layer.weight_scale[:, None]).reshape(layer.weight.shape)


def textbook(weight: torch.Tensor, h: torch.Tensor, layer: QuantLinear, damping: float) -> torch.Tensor:
    """Optimal brain quantization in a fixed order, with the inverse Hessian shrunk one column at a time."""
    w = weight.double().clone()
    inverse = torch.linalg.inv(h + damping * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype))
    scale, zero = layer.weight_scale[:, None], layer.weight_zero_point[:, None]
    out = torch.empty_like(w)
    for j in range(w.shape[1]):
        q = ((w[:, j, None] / scale).round() + zero).clamp(*layer.integers)
        out[:, j] = ((q - zero) * scale)[:, 0]
        w -= ((w[:, j] - out[:, j]) / inverse[j, j])[:, None] * inverse[j]
        inverse = inverse - inverse[:, j, None] * inverse[None, j] / inverse[j, j]
        inverse[j] = inverse[:, j] = 0
        inverse[j, j] = 1
    return out


@pytest.mark.parametrize("policy", [{}, {"symmetric": True}, {"per_channel": False}])
@pytest.mark.parametrize("block", [1, 5, 128])
def test_it_is_optimal_brain_quantization_in_a_fixed_order(block, policy):
    layer = linear(24, **policy)
    h = hessian(correlated(24))
    found = second_order_rounding(layer, h, 0.01, block)
    torch.testing.assert_close(
        real(layer, found).double(), textbook(layer.weight, h[0], layer, 0.01), rtol=1e-5, atol=1e-6
    )


def test_correlated_inputs_lose_less_than_by_rounding_to_nearest():
    layer = linear(40)
    x = correlated(40)
    found = second_order_rounding(layer, hessian(x))
    exact, own, nearest = (x @ w.T for w in (layer.weight, real(layer, found), real(layer, layer.integer_weight())))
    assert (own - exact).square().mean() < 0.5 * (nearest - exact).square().mean()


def test_independent_inputs_are_rounded_to_nearest():
    layer = linear(12)
    h = torch.diag_embed(torch.rand(1, 12, dtype=torch.float64) + 0.1)
    assert torch.equal(second_order_rounding(layer, h), layer.integer_weight())


def test_a_dead_input_keeps_its_nearest_weight_and_disturbs_nothing():
    x = correlated(10)
    x[:, 3] = 0
    layer = linear(10)
    found = second_order_rounding(layer, hessian(x), 0.0)
    assert torch.equal(found[:, 3], layer.integer_weight()[:, 3])
    kept = [i for i in range(10) if i != 3]
    other = QuantLinear(nn.Linear(9, 6), BitPolicy(3, 8))
    other.weight.data.copy_(layer.weight[:, kept])
    other.weight_scale.copy_(layer.weight_scale)
    other.weight_zero_point.copy_(layer.weight_zero_point)
    assert torch.equal(second_order_rounding(other, hessian(x[:, kept]), 0.0), found[:, kept])


CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "strided": nn.Conv2d(4, 6, (3, 2), stride=2, padding=(2, 1), dilation=2),
    "grouped": nn.Conv2d(4, 6, 3, groups=2, bias=False),
    "depthwise": nn.Conv2d(4, 8, 3, padding="same", groups=4),
    "reflecting": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@torch.no_grad()
def test_a_convolutions_hessian_gives_its_squared_output(name):
    layer = QuantConv2d(CONVOLUTIONS[name], BitPolicy())
    x = torch.randn(7, 4, 9, 10, generator=torch.Generator().manual_seed(0))
    h = hessian_of(layer, [x])
    torch.manual_seed(3)
    change = torch.randn_like(layer.weight)
    output = F.conv2d(
        F.pad(
            x,
            layer._reversed_padding_repeated_twice,
            mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode,
        ),
        change,
        None,
        layer.stride,
        0,
        layer.dilation,
        layer.groups,
    )
    rows = change.reshape(layer.groups, -1, h.shape[1]).double()
    energy = torch.einsum("gon,gnm,gom->go", rows, h, rows).flatten() / 2
    torch.testing.assert_close(energy.float(), output.square().mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_parts_of_a_batch_add_up(monkeypatch):
    layer = QuantConv2d(CONVOLUTIONS["plain"], BitPolicy())
    x = torch.randn(9, 4, 8, 8)
    whole = hessian_of(layer, [x])
    monkeypatch.setattr("evalsuite.quantizers.gptq._UNFOLDED", 1)
    torch.testing.assert_close(hessian_of(layer, [x]), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(hessian_of(layer, x.split(4)), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@pytest.mark.parametrize("fold_norm", [True, False])
@torch.no_grad()
def test_a_network_comes_nearer_than_by_rounding_to_nearest(build, fold_norm):
    model, errors = build(), {}
    for plugin in (RoundToNearest(), GPTQ()):
        twin = plugin.insert(model, BitPolicy(3, 8, fold_norm=fold_norm), X[:1])
        plugin.calibrate(twin, X, torch_generator(0))
        errors[type(plugin)] = float((twin(X) - model(X)).square().mean())
        for layer in quantized_layers(twin).values():
            torch.testing.assert_close(real(layer, layer.integer_weight()), layer.weight)
    # The transformer's random weights see inputs that are hardly correlated.
    assert errors[GPTQ] < (0.8 if build is tiny_resnet else 1.2) * errors[RoundToNearest]


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@torch.no_grad()
def test_weights_are_those_that_running_the_whole_network_for_each_layer_gives(build):
    model = build()
    twin = GPTQ().insert(model, BitPolicy(3, 8), X[:1])
    whole = copy.deepcopy(twin)
    GPTQ().calibrate(twin, X, torch_generator(0))
    set_weight_ranges(whole, GPTQ().weight_estimator())
    layers = quantized_layers(whole)
    for name in describe(whole, X).layers:
        inputs = outputs_of(whole, f"{name}.input_quantizer", X)
        layers[name].set_integers(second_order_rounding(layers[name], hessian_of(layers[name], [inputs])))
    for name, layer in quantized_layers(twin).items():
        assert torch.equal(layer.integer_weight(), layers[name].integer_weight())


def test_inputs_that_are_not_finite_are_named_and_rounded_to_nearest():
    class Poisoned(nn.Module):
        def forward(self, x):
            return x / torch.zeros_like(x)

    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), Poisoned(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 12 * 12, 2)
    ).eval()
    twin = GPTQ().insert(model, BitPolicy(4, 8), X[:1])
    with own_warnings(QuantizationWarning) as caught:
        GPTQ().calibrate(twin, X, torch_generator(0))
    message = "the Hessian of its inputs is not positive definite, rounded to nearest instead"
    assert [text for text in caught if "Hessian" in text] == [f"2: {message}", f"4: {message}"]
    nearest = insert_quantizers(model, BitPolicy(4, 8), X[:1])
    set_weight_ranges(nearest, GPTQ().weight_estimator())
    assert torch.equal(twin[2].integer_weight(), nearest[2].integer_weight())
    assert all(value.isfinite().all() for value in twin.state_dict().values())


def test_a_hessian_that_is_not_positive_is_told():
    assert second_order_rounding(linear(3), -torch.eye(3, dtype=torch.float64)[None]) is None
    assert second_order_rounding(linear(3), torch.full((1, 3, 3), torch.nan, dtype=torch.float64)) is None


@pytest.mark.parametrize("wrong", [{"damping": -0.1}, {"block_columns": 0}])
def test_impossible_options_are_named(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} = .*expected"):
        GPTQ(**wrong)
