import copy

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

from evalsuite.adapters._norms import use_batch_statistics
from evalsuite.errors import Refused
from evalsuite.quantization.apply import quantize
from evalsuite.quantizers._norm_tuning import tune_norms
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
    tune_norms(model, reference, X, 40, 2.0, torch_generator(0))
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
        tune_norms(plain, plain, X, 1, 2.0, torch_generator(0))
