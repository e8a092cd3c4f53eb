from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from torch import nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantizers._perturbations import perturb
from evalsuite.quantizers._stability import amplification, moments_of_change
from evalsuite.quantizers.qdrop import QDrop
from evalsuite.quantizers.ttaq import TTAQ
from evalsuite.randomness import torch_generator

X = random_images(48)


def test_amplification_is_the_expected_square_of_the_change():
    """E‖Ŵδ‖² = tr(Ŵ Σ Ŵᵀ) for correlated δ and a full Σ, for independent δ and a diagonal one."""
    generator = torch_generator(0)
    weight, mixing = torch.randn(6, 9, generator=generator), torch.randn(9, 9, generator=generator)
    draws = torch.randn(200_000, 9, generator=generator)
    measured = (draws @ mixing.T @ weight.T).square().sum(1).mean()
    torch.testing.assert_close(amplification(weight, mixing @ mixing.T), measured, rtol=0.02, atol=0)
    spread = torch.rand(9, generator=generator) + 0.1
    measured = (draws * spread @ weight.T).square().sum(1).mean()
    torch.testing.assert_close(amplification(weight, spread.square()[None]), measured, rtol=0.02, atol=0)


class Layers(nn.Module):
    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, 2, 1, groups=groups, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))


@torch.no_grad()
@pytest.mark.parametrize(("covariance", "groups"), [("full", 1), ("diagonal", 1), ("diagonal", 2), ("full", 2)])
def test_moments_say_how_much_a_layer_changes(covariance, groups):
    torch.manual_seed(0)
    model = Layers(groups).eval()
    x = torch.randn(80, 4, 16, 16)
    delta = torch.randn(80, 4, 16, 16) * torch.tensor([0.1, 0.5, 1.0, 2.0])[:, None, None]
    twin = insert_quantizers(model, BitPolicy(), x[:1])
    moments = moments_of_change(twin, x, x + delta, covariance)
    change = model.conv(x + delta) - model.conv(x)
    # Padding, which a diagonal leaves out of account, makes the border change less.
    measured = (change if covariance == "full" and groups == 1 else change[:, :, 1:, 1:]).square().sum(1).mean()
    torch.testing.assert_close(amplification(twin.conv.weight, moments["conv"]), measured, rtol=0.06, atol=0)
    head = (model(x + delta) - model(x)).square().sum(1).mean()
    found = amplification(twin.head.weight, moments["head"])
    assert found == pytest.approx(float(head), rel=1e-3 if covariance == "full" else 0.5)


def learnt(model, plugin, seed=0):
    twin = plugin.insert(model, BitPolicy(2, 8), X[:1])
    plugin.calibrate(twin, X, torch_generator(seed))
    return twin


def amplified(model, twin) -> float:
    reference = insert_quantizers(model, BitPolicy(), X[:1])
    moments = moments_of_change(reference, X, perturb(X, 1.0, torch_generator(5)), "diagonal")
    return sum(float(amplification(layer.weight, moments[name])) for name, layer in quantized_layers(twin).items())


FAST = {"iterations": 25, "learning_rate": 0.03, "batch_size": 16, "steps": 20, "bins": 256}


def test_pem_makes_weights_amplify_changes_less():
    model = tiny_resnet()
    base, steady = (amplified(model, learnt(model, TTAQ(pem=pem, pcr=0.0, **FAST))) for pem in (0.0, 10.0))
    assert steady < 0.97 * base


@torch.no_grad()
@pytest.mark.parametrize(("consistency", "weight"), [("block", 5.0), ("prediction", 500.0)])
def test_pcr_makes_predictions_for_perturbed_images_agree(consistency, weight):
    model = tiny_resnet()
    held_out = random_images(300, seed=9)
    changed = perturb(held_out, 1.0, torch_generator(7))

    def divergence(plugin) -> float:
        twin = learnt(model, plugin)
        clean, other = twin(held_out).log_softmax(1), twin(changed).log_softmax(1)
        return float(F.kl_div(other, clean, log_target=True, reduction="batchmean"))

    steady = divergence(TTAQ(pem=0.0, pcr=weight, consistency=consistency, **FAST))
    assert steady < divergence(QDrop(**FAST))
