import copy

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.adapters._norms import FlatParameters, affine_norms, finite, use_batch_statistics


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_flat_parameters_read_back_what_was_written(build):
    model = build()
    flat = FlatParameters(affine_norms(model))
    values = torch.arange(float(sum(flat.sizes)))
    flat.write(values)
    assert torch.equal(flat.read(), values)
    first = affine_norms(model)[0]
    assert torch.equal(first.weight, values[: len(first.weight)])
    assert torch.equal(first.bias, values[len(first.weight) :][: len(first.weight)])


def test_norms_without_bias_or_without_any_parameter():
    model = nn.Sequential(nn.LayerNorm((2, 3), bias=False), nn.BatchNorm2d(4, affine=False), nn.RMSNorm(5))
    assert affine_norms(model) == [model[0], model[2]]
    assert FlatParameters(affine_norms(model)).sizes == [6, 5]


def test_batch_statistics_survive_a_copy_and_leave_the_running_ones_alone():
    model = tiny_resnet()
    before = copy.deepcopy(model.state_dict())
    use_batch_statistics(model)
    copied = copy.deepcopy(model).eval()
    expected = tiny_resnet().train()(3 * random_images(8))
    assert torch.equal(copied(3 * random_images(8)), expected)
    assert all(torch.equal(value, before[name]) for name, value in copied.state_dict().items())


def test_finite():
    assert finite([torch.ones(2), None, torch.tensor(0.0)])
    assert not finite([torch.ones(2), torch.tensor([0.0, float("nan")])])
