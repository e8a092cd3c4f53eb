from __future__ import annotations

import copy

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning
from evalsuite.quantization.bias_correction import add_biases, correct_biases
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.quantization.grids.range_setting import round_weights, set_weight_ranges
from evalsuite.quantization.grids.ranges import MinMax
from evalsuite.quantization.insert import insert_quantizers

X = random_images(80)


def rounded(model: nn.Module, **policy) -> tuple[nn.Module, nn.Module]:
    reference = insert_quantizers(model, BitPolicy(2, 8, **policy), X[:1])
    add_biases(reference)
    twin = copy.deepcopy(reference)
    set_weight_ranges(twin, MinMax())
    round_weights(twin)
    return twin, reference


def means(model: nn.Module) -> dict[str, torch.Tensor]:
    """Mean output per channel of each layer's first run."""
    found: dict[str, torch.Tensor] = {}

    def keep(name):
        def hook(module, args, out):
            found.setdefault(name, out.movedim(1 if out.ndim == 4 else -1, 0).flatten(1).mean(1))

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in quantized_layers(model).items()]
    with torch.no_grad():
        model(X)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@pytest.mark.parametrize("fold_norm", [True, False])
def test_mean_outputs_are_the_reference_s_afterwards(build, fold_norm):
    twin, reference = rounded(build(), fold_norm=fold_norm)
    assert all(layer.bias is not None for layer in quantized_layers(twin).values())
    before = means(twin)
    correct_biases(twin, reference, X)
    expected, after = means(reference), means(twin)
    assert after.keys() == expected.keys()
    assert max(float((before[name] - mean).abs().max()) for name, mean in expected.items()) > 0.05
    for name, mean in expected.items():
        torch.testing.assert_close(after[name], mean, rtol=1e-3, atol=1e-4)


def test_an_added_bias_of_zero_changes_nothing():
    model = tiny_resnet()
    plain = insert_quantizers(model, BitPolicy(), X[:1])
    biased = copy.deepcopy(plain)
    add_biases(biased)
    with torch.no_grad():
        assert torch.equal(plain(X), biased(X))
    assert not biased.conv1.bias.requires_grad


def test_a_layer_that_runs_twice_is_corrected_for_its_first_run():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.Flatten(), nn.Linear(3 * 16 * 16, 2)).eval()
    twin, reference = rounded(model)
    correct_biases(twin, reference, X)
    torch.testing.assert_close(means(twin)["0"], means(reference)["0"], rtol=1e-3, atol=1e-5)


def test_a_mean_that_is_not_finite_is_named():
    class Poisoned(nn.Module):
        def forward(self, x):
            return x / torch.zeros_like(x)

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Poisoned(), nn.Flatten(), nn.Linear(4 * 14 * 14, 2)).eval()
    twin, reference = rounded(model)
    with pytest.warns(QuantizationWarning, match="^3: its mean output is not finite"):
        correct_biases(twin, reference, X)
    assert all(value.isfinite().all() for value in twin.state_dict().values())
