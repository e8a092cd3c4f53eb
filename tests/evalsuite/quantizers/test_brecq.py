from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer

from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantization.apply import quantize
from evalsuite.quantization.grids.layers import activation_quantizers, quantized_layers
from evalsuite.quantization.reconstruction.options import scaled_rate
from evalsuite.quantizers.brecq import BRECQ
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import torch_generator
from evalsuite.running.task_data import normalise
from evalsuite.tasks.digits import DigitsViT

X = random_images(48)
SMALL = {"batch_size": 16, "range_images": 24, "steps": 20, "bins": 256}
FAST = {"iterations": 25, "step_iterations": 10, "learning_rate": 0.04, **SMALL}


def calibrated(model, plugin, seed=0):
    twin = plugin.insert(model, BitPolicy(2, 4), X[:1])
    plugin.calibrate(twin, X, torch_generator(seed))
    return twin


@pytest.fixture(scope="module")
def learnt():
    return calibrated(tiny_resnet(), BRECQ(**FAST))


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"fisher": True}, {"step_iterations": 0}, {"precision": "bfloat16"}])
def test_few_bits_keep_more_than_by_rounding_to_nearest(options):
    for build in (tiny_resnet, tiny_transformer):
        model = build()
        expected = model(X)
        plugins = (BRECQ(**FAST | options), RoundToNearest())
        errors = [(calibrated(model, plugin)(X) - expected).square().mean() for plugin in plugins]
        assert errors[0] < errors[1] * 0.7


@torch.no_grad()
def test_the_state_is_all_there_is_and_weights_lie_on_their_grid(learnt):
    fresh = BRECQ(**FAST).insert(tiny_resnet(), BitPolicy(2, 4), X[:1])
    fresh.load_state_dict(learnt.state_dict())
    assert torch.equal(fresh(X), learnt(X))
    assert all(one.calibrated for one in activation_quantizers(learnt).values())
    for layer in quantized_layers(learnt).values():
        before = layer.weight.clone()
        layer.round_weight()
        assert torch.equal(layer.weight, before)


def test_the_seed_decides(learnt):
    again, other = (calibrated(tiny_resnet(), BRECQ(**FAST), seed=seed) for seed in (0, 1))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in learnt.state_dict().items())
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in learnt.state_dict().items())


def test_caching_on_disk_changes_nothing_and_no_gradient_is_left(learnt):
    twin = calibrated(tiny_resnet(), BRECQ(**FAST, cache_gigabytes=0.0))
    assert all(torch.equal(value, learnt.state_dict()[name]) for name, value in twin.state_dict().items())
    assert all(parameter.grad is None for parameter in twin.parameters())


def test_scales_are_learnt(learnt):
    plain = calibrated(tiny_resnet(), BRECQ(**FAST | {"step_iterations": 0}))
    assert all(
        torch.equal(layer.weight, quantized_layers(plain)[name].weight)
        for name, layer in quantized_layers(learnt).items()
    )
    scales = [torch.stack([one.scale for one in activation_quantizers(twin).values()]) for twin in (learnt, plain)]
    assert not torch.equal(*scales)


def test_scales_get_a_quarter_of_the_iterations_unless_told():
    plain = BRECQ(**FAST | {"iterations": 8, "step_iterations": None})
    told = BRECQ(**FAST | {"iterations": 8, "step_iterations": 2})
    states = [calibrated(tiny_resnet(), plugin).state_dict() for plugin in (plain, told)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("wrong", [{"step_iterations": -1}, {"range_images": 0}, {"step_rate": 0.0}])
def test_impossible_options_are_named(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} = .*expected"):
        BRECQ(**wrong)


def test_a_rate_grows_with_fewer_iterations_up_to_a_bound():
    assert scaled_rate(1e-3, 20_000, 20_000) == 1e-3
    assert scaled_rate(1e-3, 20_000, 5_000) == pytest.approx(2e-3)
    assert scaled_rate(1e-3, 20_000, 200) == pytest.approx(1e-2)
    assert scaled_rate(1e-3, 20_000, 1) == pytest.approx(1e-2)
    assert scaled_rate(4e-4, 5_000, 2) == pytest.approx(4e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_handful_of_iterations_at_eight_bits_does_no_harm(seed):
    """Adam's first step is the learning rate itself: at a rate scaled without a bound it changed 44 % of these."""
    task = DigitsViT()
    data, model = task.data(None), task.model(None).eval()
    images, calibration = normalise(data.test_images[:200], data), normalise(data.pool_images[:64], data)
    quantized = quantize(model, calibration, method="brecq", weight_bits=8, activation_bits=8, seed=seed, iterations=8)
    with torch.no_grad():
        changed = quantized(images).argmax(dim=1) != model(images).argmax(dim=1)
    assert changed.float().mean() <= 0.03
