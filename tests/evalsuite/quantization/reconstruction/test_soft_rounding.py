from __future__ import annotations

import pytest
import torch
from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.quantization.grids.formats import neighbours
from evalsuite.quantization.grids.layers import QuantConv2d, QuantLayer, QuantLinear
from evalsuite.quantization.reconstruction.soft_rounding import GAMMA, ZETA, SoftRounding


def layers(bits: int = 3, per_channel: bool = True) -> list[QuantLayer]:
    torch.manual_seed(0)
    policy = BitPolicy(bits, 4, per_channel=per_channel)
    found = [QuantConv2d(nn.Conv2d(4, 6, 3, groups=2), policy), QuantLinear(nn.Linear(20, 4), policy)]
    for layer in found:
        rows = layer.rows()
        layer.set_weight_range(rows.amin(1) * 0.7, rows.amax(1) * 0.7)  # so that some are clipped
    return found


def written_out(layer: QuantLayer, logit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The soft weight and h of arXiv 2004.10568, by autograd; ``logit`` of the weight's shape."""
    shape = (-1, *[1] * (layer.weight.ndim - 1))
    scale, zero = layer.weight_scale.reshape(shape), layer.weight_zero_point.reshape(shape)
    h = (torch.sigmoid(logit) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
    integers = ((layer.weight / scale).floor() + h + zero).clamp(*layer.integers)
    return (integers - zero) * scale, h


def logits(rounding: SoftRounding, own: list[QuantLayer]) -> list[torch.Tensor]:
    sizes = [layer.weight.numel() for layer in own]
    parts = rounding.logit.detach().split(sizes)
    return [rounding._shaped(part, layer.weight.shape) for part, layer in zip(parts, own, strict=True)]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_and_gradients_are_those_of_the_written_out_formula(channels_last, per_channel):
    own = layers(per_channel=per_channel)
    rounding = SoftRounding(own, [None, None], channels_last=channels_last)
    with torch.no_grad():
        rounding.logit.add_(torch.randn_like(rounding.logit) * 2)
    rounding.soften()
    targets = [torch.randn_like(layer.weight) for layer in own]
    sum((w * t).sum() for w, t in zip(rounding.weights, targets, strict=True)).backward()
    rounding.backward(0.3, 4.5)
    gradients = rounding.logit.grad.split([layer.weight.numel() for layer in own])
    for i, layer in enumerate(own):
        logit = logits(rounding, own)[i].clone().requires_grad_()
        weight, h = written_out(layer, logit)
        torch.testing.assert_close(rounding.weights[i].detach(), weight.detach())
        loss = (weight * targets[i]).sum() + 0.3 * (1 - (2 * h - 1).abs().pow(4.5)).sum()
        (expected,) = torch.autograd.grad(loss, logit)
        torch.testing.assert_close(rounding._shaped(gradients[i], layer.weight.shape), expected)


def test_it_begins_at_the_weight_and_ends_on_the_grid():
    own = layers(4)
    rounding = SoftRounding(own, [None, None])
    for layer, weight, integers in zip(own, rounding.weights, rounding.points(), strict=True):
        q = layer.integer_weight()
        inside = (q > 0) & (q < 15)
        torch.testing.assert_close(weight[inside], layer.weight[inside])
        assert torch.equal(integers, q)
    assert rounding.indecision(2.0) > 0
    with torch.no_grad():
        rounding.logit.fill_(10)
    rounding.soften()
    assert rounding.indecision(2.0) == 0
    assert bool((rounding.up() == 1).all())
    soft = [weight.detach().clone() for weight in rounding.weights]
    rounding.bake()
    for layer, weight in zip(own, soft, strict=True):
        torch.testing.assert_close(layer.weight, weight)
        expected = (layer.weight.flatten(1) / layer.weight_scale[:, None]).round()
        torch.testing.assert_close(layer.weight.flatten(1), expected * layer.weight_scale[:, None])


def test_hard_is_what_will_be_baked():
    own = layers(2)
    rounding = SoftRounding(own, [None, None])
    soft = [weight.detach().clone() for weight in rounding.weights]
    rounding.harden()
    hard = [weight.detach().clone() for weight in rounding.weights]
    rounding.soften()
    assert all(torch.equal(a, b) for a, b in zip(soft, rounding.weights, strict=True))
    rounding.bake()
    for layer, weight in zip(own, hard, strict=True):
        torch.testing.assert_close(layer.weight, weight)


def test_a_factor_scales_the_soft_weight_but_not_the_baked_one():
    factor = torch.rand(6) + 0.5
    own, same = layers(), layers()
    scaled, plain = SoftRounding(own, [factor, None]), SoftRounding(same, [None, None])
    torch.testing.assert_close(scaled.weights[0], plain.weights[0] * factor[:, None, None, None])
    torch.testing.assert_close(scaled.weights[1], plain.weights[1])
    scaled.bake()
    plain.bake()
    assert torch.equal(own[0].weight, same[0].weight)


def formatted(name: str) -> list[QuantLayer]:
    torch.manual_seed(0)
    policy = BitPolicy(weight_format=name, activation_format=name).for_layer("a")
    found = [QuantConv2d(nn.Conv2d(72, 6, 3, groups=2), policy), QuantLinear(nn.Linear(40, 4), policy)]
    for layer in found:
        rows = layer.rows()
        layer.set_weight_range(rows.amin(1), rows.amax(1))
    return found


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", ["FP8", "MXFP4", "NVFP4", "MXINT8"])
def test_values_of_a_format_go_to_one_neighbour_or_the_other(name, channels_last):
    own = formatted(name)
    rounding = SoftRounding(own, [None, None], channels_last=channels_last)
    bounds = []
    for layer, soft in zip(own, rounding.weights, strict=True):
        scale, element = layer.point_scales().clone(), layer.weight_format.element
        low, high = (each * scale for each in neighbours(layer.weight / scale, element))
        inside = (layer.weight >= low) & (layer.weight <= high)  # beyond the greatest value both are the greatest
        torch.testing.assert_close(soft[inside], layer.weight[inside], rtol=1e-4, atol=1e-6)
        bounds.append((low, high))
    with torch.no_grad():
        rounding.logit.copy_(torch.randn(rounding.logit.shape))
    rounding.harden()
    hard = [weight.detach().clone() for weight in rounding.weights]
    ups = [logit >= 0 for logit in logits(rounding, own)]
    rounding.bake()
    for layer, weight, up, (low, high) in zip(own, hard, ups, bounds, strict=True):
        torch.testing.assert_close(layer.weight, weight)
        assert torch.equal(layer.weight, torch.where(up, high, low))


def test_gradients_of_a_format_are_those_of_the_written_out_formula():
    own = formatted("MXFP4")
    rounding = SoftRounding(own, [torch.full((6,), 2.0), None])
    with torch.no_grad():
        rounding.logit.add_(torch.randn_like(rounding.logit))
    rounding.soften()
    targets = [torch.randn_like(layer.weight) for layer in own]
    sum((w * t).sum() for w, t in zip(rounding.weights, targets, strict=True)).backward()
    rounding.backward()
    gradients = rounding.logit.grad.split([layer.weight.numel() for layer in own])
    for i, (layer, factor) in enumerate(zip(own, (2.0, 1.0), strict=True)):
        logit = logits(rounding, own)[i].clone().requires_grad_()
        h = (torch.sigmoid(logit) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
        scale = layer.point_scales()
        low, high = (each * scale for each in neighbours(layer.weight / scale, layer.weight_format.element))
        weight = factor * (low + h * (high - low))
        (expected,) = torch.autograd.grad((weight * targets[i]).sum(), logit)
        torch.testing.assert_close(rounding._shaped(gradients[i], layer.weight.shape), expected)
