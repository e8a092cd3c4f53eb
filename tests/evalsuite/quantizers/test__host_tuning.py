import copy

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

from evalsuite.adapters._norms import use_batch_statistics
from evalsuite.errors import Refused
from evalsuite.quantization.apply import quantize
from evalsuite.quantization.grids.layers import QuantLayer
from evalsuite.quantizers._host_tuning import tune_for_hosts
from evalsuite.quantizers._perturbations import perturb
from evalsuite.randomness import torch_generator
from evalsuite.structure import NORM_LAYERS

X = random_images(64)


@torch.no_grad()
def disagreement(model, reference):
    """KL of a network, under batch statistics, from the reference, on perturbed images that tuning never saw."""
    run = copy.deepcopy(model)
    use_batch_statistics(run)
    images = random_images(64, 5)
    found = run(perturb(images, 2.0, torch_generator(9))).log_softmax(dim=1)
    wanted = reference(images).log_softmax(dim=1)
    return float(F.kl_div(found, wanted, log_target=True, reduction="batchmean"))


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_norms_alone_move_and_the_prediction_under_perturbation_comes_nearer(build):
    reference = build()
    model = quantize(reference, X, method="rtn", weight_bits=3, activation_bits=4)
    before, flags = copy.deepcopy(model), [parameter.requires_grad for parameter in model.parameters()]
    tune_for_hosts(model, reference, X, 40, 2.0, torch_generator(0))
    own = {
        f"{name}.{part}"
        for name, m in model.named_modules()
        if isinstance(m, NORM_LAYERS)
        for part in ("weight", "bias")
    }
    old, new = before.state_dict(), model.state_dict()
    assert own == {name for name in old if not torch.equal(old[name], new[name])}
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert not any(module.training for module in model.modules())
    assert all(norm.track_running_stats for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))
    assert disagreement(model, reference) < disagreement(before, reference)


def test_a_network_without_norms_is_refused():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)).eval()
    with pytest.raises(Refused, match="norm_steps needs norm layers"):
        tune_for_hosts(plain, plain, X, 1, 2.0, torch_generator(0))


def points(model):
    return {name: layer.integer_weight() for name, layer in model.named_modules() if isinstance(layer, QuantLayer)}


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_rounding_goes_on_where_it_is_asked_and_brings_the_prediction_nearer_still(build):
    reference = build()
    norms = quantize(reference, X, method="rtn", weight_bits=2, activation_bits=4)
    both = copy.deepcopy(norms)
    start = points(norms)
    tune_for_hosts(norms, reference, X, 40, 2.0, torch_generator(0))
    tune_for_hosts(both, reference, X, 40, 2.0, torch_generator(0), rounding_rate=0.02)
    assert all(torch.equal(old, points(norms)[name]) for name, old in start.items())
    moved = torch.cat([(old != points(both)[name]).flatten() for name, old in start.items()])
    assert 0 < moved.float().mean() < 0.5
    for layer in both.modules():
        if isinstance(layer, QuantLayer):  # what is written lies on the grid, bit for bit
            before = layer.weight.clone()
            layer.round_weight()
            assert torch.equal(layer.weight, before)
            assert not layer.weight.requires_grad
    assert disagreement(both, reference) < disagreement(norms, reference)


def test_no_weight_moves_before_a_step_is_made():
    """Not even where another rounding than to nearest has been learnt."""
    reference = tiny_resnet()
    model = quantize(reference, X, method="adaround", weight_bits=2, activation_bits=4, iterations=20)
    before = copy.deepcopy(model.state_dict())
    tune_for_hosts(model, reference, X, 0, 2.0, torch_generator(0), rounding_rate=0.1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rounding_to_a_number_format_has_no_integers_to_tune():
    reference = tiny_resnet()
    model = quantize(reference, X, method="rtn", bits="FP8", first_last_bits=8)
    with pytest.raises(Refused, match="rounding_rate needs weights that are rounded to integers"):
        tune_for_hosts(model, reference, X, 1, 2.0, torch_generator(0), rounding_rate=0.1)
