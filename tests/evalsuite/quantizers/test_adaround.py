from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_transformer
from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning
from evalsuite.quantization.apply import quantize
from evalsuite.quantization.grids.layers import activation_quantizers, quantized_layers
from evalsuite.quantizers.adaround import AdaRound
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import torch_generator
from evalsuite.running.task_data import normalise
from evalsuite.tasks.cifar10 import ResNet20

X = random_images(48)
FAST = AdaRound(iterations=100, learning_rate=0.02, batch_size=16)


def small() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 12, 3, 2, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 12, 3), nn.Flatten(), nn.Linear(12, 5)),
    )
    model.train()(random_images(64, seed=1))
    return model.eval()


def calibrated(model, bits, plugin=FAST, seed=0):
    twin = plugin.insert(model, bits, X[:1])
    plugin.calibrate(twin, X, torch_generator(seed))
    return twin


def weights(model) -> torch.Tensor:
    return torch.cat([layer.integer_weight().flatten() for layer in quantized_layers(model).values()])


@pytest.fixture(scope="module")
def learnt():
    return calibrated(small(), BitPolicy(2, 8))


@torch.no_grad()
def test_a_single_layer_is_reconstructed_better_than_by_rounding_to_nearest():
    """Every layer of the network by itself, on the same full-precision input."""
    model = small()
    inputs: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda _, args, __, name=name: inputs.__setitem__(name, args[0]))
    model(X)
    thorough = AdaRound(iterations=300, learning_rate=0.02)
    for bits in (2, 3):
        for name, x in inputs.items():
            layer = model.get_submodule(name)
            layer._forward_hooks.clear()
            if x.ndim == 2:  # a network takes images
                x = x[:, :, None, None]
                layer = _as_convolution(layer)
            alone = nn.Sequential(layer).eval()
            errors = []
            for plugin in (thorough, RoundToNearest()):
                twin = plugin.insert(alone, BitPolicy(bits, 8, first_last_bits=bits), x[:1])
                plugin.calibrate(twin, x, torch_generator(0))
                twin[0].input_quantizer.switch(False)
                errors.append(float((twin(x) - alone(x)).square().sum()))
            assert errors[0] <= errors[1], (name, bits)


def _as_convolution(layer: nn.Linear) -> nn.Conv2d:
    convolution = nn.Conv2d(layer.in_features, layer.out_features, 1)
    convolution.weight.copy_(layer.weight[:, :, None, None])
    convolution.bias.copy_(layer.bias)
    return convolution


def test_a_network_of_few_bits_keeps_more_than_by_rounding_to_nearest(learnt):
    model = small()
    nearest = calibrated(model, BitPolicy(2, 8), RoundToNearest())
    with torch.no_grad():
        expected = model(X)
        error, nearest_error = ((twin(X) - expected).square().mean() for twin in (learnt, nearest))
    assert error < nearest_error / 2


def test_each_weight_goes_to_one_of_its_two_neighbours(learnt):
    source = dict(small().named_modules())
    moved = 0
    for name, layer in quantized_layers(learnt).items():
        steps = source[name].weight.flatten(1) / layer.weight_scale[:, None] + layer.weight_zero_point[:, None]
        clipped = steps.clamp(*layer.integers)
        q = layer.integer_weight().flatten(1)
        assert ((q - clipped).abs() <= 1 + 1e-4).all()
        assert q.min() >= layer.integers.low
        assert q.max() <= layer.integers.high
        moved += int((q != clipped.round()).sum())
    assert moved > 50


@torch.no_grad()
def test_the_state_is_all_there_is(learnt):
    fresh = FAST.insert(small(), BitPolicy(2, 8), X[:1])
    fresh.load_state_dict(learnt.state_dict())
    assert torch.equal(fresh(X), learnt(X))


def test_the_seed_decides(learnt):
    again = calibrated(small(), BitPolicy(2, 8))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in learnt.state_dict().items())
    other = calibrated(small(), BitPolicy(2, 8), seed=1)
    assert not torch.equal(weights(learnt), weights(other))


def test_no_gradient_is_left_behind_and_it_works_where_gradients_are_off():
    plugin = AdaRound(iterations=2)
    with torch.no_grad():
        twin = calibrated(small(), BitPolicy(3, 3), plugin)
    assert all(parameter.grad is None for parameter in twin.parameters())
    assert all(one.calibrated for one in activation_quantizers(twin).values())


def test_caching_on_disk_changes_nothing(learnt):
    plugin = AdaRound(iterations=100, learning_rate=0.02, batch_size=16, cache_gigabytes=0.0)
    twin = calibrated(small(), BitPolicy(2, 8), plugin)
    assert torch.equal(weights(twin), weights(learnt))


def test_inputs_may_be_rounded_while_learning():
    bits = BitPolicy(3, 2)
    plain, rounded = (
        calibrated(small(), bits, AdaRound(iterations=60, learning_rate=0.02, quantize_inputs=quantize_inputs))
        for quantize_inputs in (False, True)
    )
    assert not torch.equal(weights(plain), weights(rounded))
    assert all(one.calibrated for one in activation_quantizers(rounded).values())


def test_a_transformer_is_learnt_in_full():
    model = tiny_transformer()
    bits = BitPolicy(2, 8)
    with torch.no_grad():
        expected = model(X)
        errors = [
            (calibrated(model, bits, plugin)(X) - expected).square().mean() for plugin in (FAST, RoundToNearest())
        ]
    assert errors[0] < errors[1]


def test_what_is_not_finite_is_rounded_to_nearest_by_name():
    class Break(nn.Module):
        def forward(self, x):
            return x.index_fill(0, torch.tensor([0]), float("nan"))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 16), Break(), nn.Flatten(), nn.Linear(4, 3)).eval()
    with pytest.warns(QuantizationWarning) as caught:
        twin = quantize(model, X, method="adaround", iterations=2)
    messages = [str(one.message) for one in caught]
    assert any(message.startswith("3: NaN or infinity reaches it") for message in messages)
    assert all(value.isfinite().all() for value in twin.state_dict().values())


class Bright(nn.Module):
    """One way for bright images, another for the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.dark = nn.Conv2d(3, 4, 16)
        self.bright = nn.Conv2d(3, 4, 16)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head((self.bright(x) if x.mean() > 1 else self.dark(x)).flatten(1))


def test_a_layer_that_calibration_does_not_reach_is_rounded_to_nearest():
    with pytest.warns(QuantizationWarning, match="dark: not reached"):
        twin = AdaRound(iterations=2).insert(Bright(), BitPolicy(4, 4), X[:1] + 5)
    with pytest.warns(QuantizationWarning, match=r"bright\.input_quantizer: not reached"):
        AdaRound(iterations=2).calibrate(twin, X, torch_generator(0))
    assert all(len(row.unique()) <= 2**8 for row in twin.bright.rows())
    assert type(twin.dark) is nn.Conv2d
    before = twin.bright.weight.clone()
    twin.bright.round_weight()
    assert torch.equal(twin.bright.weight, before)


@pytest.mark.slow
def test_two_bits_of_weight_ruin_a_real_network_unless_the_rounding_is_learnt(data_root):
    task = ResNet20()
    data = task.data(str(data_root))
    model = task.model(str(data_root))
    calibration = normalise(data.pool_images[:128], data)
    images, labels = normalise(data.test_images[:500], data), torch.from_numpy(data.test_labels[:500])
    accuracy = {}
    for plugin in (RoundToNearest(), AdaRound(iterations=60, learning_rate=0.03, batch_size=16)):
        twin = plugin.insert(model, BitPolicy(2, 8), calibration[:1])
        plugin.calibrate(twin, calibration, torch_generator(0))
        with torch.no_grad():
            accuracy[type(plugin)] = float((twin(images).argmax(1) == labels).float().mean())
    assert accuracy[RoundToNearest] < 0.4
    assert accuracy[AdaRound] > 0.8
