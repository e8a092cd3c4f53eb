from __future__ import annotations

import pytest
import torch

from evalsuite.quantization.grids.layers import ActivationQuantizer
from evalsuite.quantization.reconstruction.learned_step import Coin, LearnedStep, LearnedSteps
from evalsuite.randomness import torch_generator


def quantizer(bits: int = 3, low: float = -1.0, high: float = 2.0, **kind) -> ActivationQuantizer:
    found = ActivationQuantizer(bits, **kind)
    found.set_range(torch.tensor(low), torch.tensor(high))
    return found


def written_out(x, scale, zero, low, high):
    """LSQ by autograd: rounding passes gradients, clipping does not."""
    steps = x / scale
    rounded = (steps.round() - steps).detach() + steps + zero
    return (rounded.clamp(low, high) - zero) * scale


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("symmetric", [True, False])
def test_output_and_gradients_are_those_of_lsq(layout, symmetric):
    own = quantizer(symmetric=symmetric)
    x = torch.randn(4, 3, 5, 5, generator=torch_generator(0)).mul_(2).contiguous(memory_format=layout)
    g = torch.randn(4, 3, 5, 5, generator=torch_generator(1))
    results = []
    for module in (True, False):
        leaf, scale = x.clone().requires_grad_(), own.scale.clone().requires_grad_()
        bounds = (-4, 3) if symmetric else (0, 7)
        out = LearnedStep(own, scale)(leaf) if module else written_out(leaf, scale, own.zero_point, *bounds)
        out.backward(g)
        results.append((out.detach(), leaf.grad, scale.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(results[0][0], own(x))


def test_a_view_with_gaps_is_rounded_like_its_copy():
    own = quantizer()
    x = torch.randn(4, 6, generator=torch_generator(0))[:, ::2]
    assert torch.equal(LearnedStep(own, own.scale.clone().requires_grad_())(x), own(x.contiguous()))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_dropped_passes_unrounded_and_teaches_the_scale_nothing(layout):
    own = quantizer(2)
    x = (
        torch.randn(8, 4, 16, 16, generator=torch_generator(0))
        .mul_(3)
        .contiguous(memory_format=layout)
        .requires_grad_()
    )
    scale = own.scale.clone().requires_grad_()
    out = LearnedStep(own, scale, 0.5, Coin(torch_generator(0)))(x)
    rounded = own(x.detach())
    passed = out == x
    assert torch.equal(out[~passed], rounded[~passed])
    assert 0.45 < passed.float().mean() < 0.55
    out.backward(torch.ones_like(out))
    assert bool((x.grad[passed] == 1).all())
    assert bool((x.grad[~passed] == 0).any())
    other = own.scale.clone().requires_grad_()
    written = written_out(x.detach(), other, own.zero_point, 0, 3)
    written.backward((~passed).float())
    torch.testing.assert_close(scale.grad, other.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_a_coin_is_fair_and_follows_the_seed(probability):
    like = torch.empty(3, 5, 7, 11).contiguous(memory_format=torch.channels_last)
    tosses = [Coin(torch_generator(0)).toss(like, probability) for _ in range(2)]
    assert torch.equal(*tosses)
    assert tosses[0].stride() == like.stride()
    assert set(tosses[0].unique().tolist()) <= {0.0, 1.0}
    assert float(tosses[0].mean()) == pytest.approx(probability, abs=0.08)
    coin = Coin(torch_generator(0))
    assert probability in (0.0, 1.0) or not torch.equal(coin.toss(like, probability), coin.toss(like, probability))


def test_scales_share_one_vector_stay_positive_and_are_written_back():
    quantizers = [quantizer(), ActivationQuantizer(4), quantizer(high=5.0)]  # the second has no range
    steps = LearnedSteps(quantizers, 0.0, torch_generator(0))
    assert list(steps.modules) == [quantizers[0], quantizers[2]]
    x = torch.linspace(-2, 6, 50)
    steps.modules[quantizers[2]](x).sum().backward()
    assert steps.scales.grad.tolist() == [0.0, steps.leaves[1].grad.item()]
    assert steps.scales.grad[1] != 0
    steps.forget()
    assert steps.scales.grad.abs().sum() == 0
    start = steps.scales.detach().clone()
    with torch.no_grad():
        steps.scales.copy_(torch.tensor([-1.0, 0.5]))
    steps.hold_positive()
    torch.testing.assert_close(steps.scales.detach(), torch.stack([start[0] / 100, torch.tensor(0.5)]))
    steps.bake()
    assert quantizers[2].scale == 0.5
    assert quantizers[1].scale == 1.0


def test_the_generator_is_left_alone_where_nothing_is_dropped():
    generator = torch_generator(0)
    before = generator.get_state()
    LearnedSteps([quantizer()], 0.0, generator)
    assert torch.equal(generator.get_state(), before)
