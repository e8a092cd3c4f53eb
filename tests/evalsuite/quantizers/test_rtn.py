from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer

from evalsuite.bits import BitPolicy
from evalsuite.quantization.grids.layers import activation_quantizers, quantized_layers
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import torch_generator
from evalsuite.running.task_data import normalise
from evalsuite.tasks.cifar10 import ResNet20

X = random_images(48)


def calibrated(model, bits, plugin=RoundToNearest()):  # noqa: B008 - frozen
    twin = plugin.insert(model, bits, X[:1])
    plugin.calibrate(twin, X, torch_generator(0))
    return twin


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@pytest.mark.parametrize("fold_norm", [True, False])
@torch.no_grad()
def test_the_state_is_all_there_is(build, fold_norm):
    bits = BitPolicy(3, 4, fold_norm=fold_norm)
    twin = calibrated(build(), bits)
    fresh = RoundToNearest().insert(build(), bits, X[:1])
    assert not torch.equal(fresh(X), twin(X))
    fresh.load_state_dict(twin.state_dict())
    assert torch.equal(fresh(X), twin(X))


def test_every_weight_is_the_nearest_point_of_its_grid():
    source = dict(tiny_resnet().named_modules())
    for name, layer in quantized_layers(calibrated(tiny_resnet(), BitPolicy(3, 3))).items():
        weight = source[name].weight
        levels = layer.integers.high - layer.integers.low + 1
        grid = torch.arange(levels) + layer.integers.low
        points = (grid - layer.weight_zero_point[:, None]) * layer.weight_scale[:, None]
        distance = (weight.flatten(1)[:, :, None] - points[:, None]).abs().amin(2)
        torch.testing.assert_close((weight - layer.weight).abs().flatten(1), distance, rtol=1e-4, atol=1e-6)


def test_ranges_narrow_from_minmax_to_mse():
    scales = {}
    for name in ("minmax", "percentile", "mse"):
        plugin = RoundToNearest(range=name, percentile=99.0)
        twin = calibrated(tiny_resnet(), BitPolicy(8, 3), plugin)
        scales[name] = torch.stack([one.scale for one in activation_quantizers(twin).values()])
    assert (scales["percentile"] < scales["minmax"]).all()
    assert (scales["mse"] <= scales["minmax"] * 1.001).all()
    assert (scales["mse"] < scales["minmax"] * 0.9).any()


@pytest.mark.parametrize("range_name", ["minmax", "percentile", "mse", "kl", "cosine"])
@torch.no_grad()
def test_equalisation_and_bias_correction_go_with_any_range(range_name):
    plugin = RoundToNearest(range=range_name, steps=20, equalisation=True, bias_correction=True)
    bits = BitPolicy(8, 8, per_channel=False, fold_norm=True)
    model = tiny_resnet()
    twin = calibrated(model, bits, plugin)
    fresh = plugin.insert(model, bits, X[:1])
    fresh.load_state_dict(twin.state_dict())
    assert torch.equal(fresh(X), twin(X))
    expected = model(X)
    assert (twin(X) - expected).norm() < 0.1 * expected.norm()


@torch.no_grad()
def test_they_help_a_network_whose_channels_are_far_apart():
    model = tiny_resnet()
    generator = torch.Generator().manual_seed(0)
    for block in (*model.layer1, *model.layer2, *model.layer3):
        factors = torch.exp(1.5 * torch.randn(len(block.bn1.weight), generator=generator))
        block.bn1.weight.mul_(factors)
        block.bn1.bias.mul_(factors)
        block.conv2.weight.div_(factors[:, None, None])
    expected, errors = model(X), {}
    for equalisation in (False, True):
        for bias_correction in (False, True):
            plugin = RoundToNearest(equalisation=equalisation, bias_correction=bias_correction)
            twin = calibrated(model, BitPolicy(4, 8, per_channel=False, fold_norm=True), plugin)
            errors[equalisation, bias_correction] = float((twin(X) - expected).square().mean())
    assert errors[True, False] < 0.6 * errors[False, False]
    assert errors[False, True] < 0.9 * errors[False, False]
    assert errors[True, True] < errors[True, False]


@pytest.mark.slow
@torch.no_grad()
def test_eight_bits_cost_a_real_network_less_than_a_point(data_root):
    task = ResNet20()
    data = task.data(str(data_root))
    model = task.model(str(data_root))
    plugin = RoundToNearest()
    twin = plugin.insert(model, BitPolicy(8, 8), torch.zeros(1, 3, 32, 32))
    plugin.calibrate(twin, normalise(data.pool_images[:128], data), torch_generator(0))
    images, labels = normalise(data.test_images[:1000], data), torch.from_numpy(data.test_labels[:1000])
    full, quantized = (float((network(images).argmax(1) == labels).float().mean()) for network in (model, twin))
    assert abs(full - 0.9173) < 0.02
    assert abs(full - quantized) <= 0.01
