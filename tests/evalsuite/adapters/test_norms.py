import copy

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evalsuite.adapters._gradient import free_norms
from evalsuite.adapters._norms import FlatParameters, affine_norms, channel_moments, finite, use_batch_statistics
from evalsuite.errors import Refused


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


@pytest.mark.parametrize("gradients", [True, False])
def test_batch_statistics_survive_a_copy_and_leave_the_running_ones_alone(gradients):
    model = tiny_resnet()
    before = copy.deepcopy(model.state_dict())
    use_batch_statistics(model)
    copied = copy.deepcopy(model).eval()
    expected = tiny_resnet().train()(3 * random_images(8))
    with torch.set_grad_enabled(gradients):
        found = copied(3 * random_images(8))
    # Without gradients the statistics are added up in another order.
    assert torch.equal(found, expected) if gradients else torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in copied.state_dict().items())


@given(
    shape=st.sampled_from([(5, 3), (4, 2, 7), (2, 3, 4, 5), (1, 2, 3, 2, 2)]),
    offset=st.sampled_from([0.0, 1.0, -30.0, 1e4]),
    spread=st.floats(0.1, 10),
    seed=st.integers(0, 99),
)
def test_channel_moments_are_those_of_double_precision(shape, offset, spread, seed):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread + offset
    rows = x.double().transpose(0, 1).flatten(1)
    mean, variance = channel_moments(x)
    torch.testing.assert_close(mean.double(), rows.mean(dim=1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variance.double(), rows.var(dim=1, correction=0), rtol=1e-2, atol=1e-5)


def test_running_statistics_come_back_after_an_error():
    norm = nn.BatchNorm2d(3).eval()
    before = copy.deepcopy(norm.state_dict())
    use_batch_statistics(norm)
    norm.bias.data = torch.zeros(2)
    with torch.no_grad(), pytest.raises(RuntimeError):
        norm(random_images(4))
    assert torch.equal(norm.running_mean, before["running_mean"])
    assert torch.equal(norm.running_var, before["running_var"])


def test_finite():
    assert finite([torch.ones(2), None, torch.tensor(0.0)])
    assert not finite([torch.ones(2), torch.tensor([0.0, float("nan")])])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moments_of_half_precision_do_not_overflow(dtype):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(4, 3, 112, 112, generator=generator) * 3 + torch.tensor([0.0, 5.0, 300.0])[:, None, None]).to(
        dtype
    )
    mean, variance = channel_moments(x)
    torch.testing.assert_close(mean, x.double().mean((0, 2, 3)).float(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(variance, x.double().var((0, 2, 3), correction=0).float(), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_batch_statistics_of_half_precision_normalise():
    x = torch.randn(8, 4, 56, 56, generator=torch.Generator().manual_seed(1)).mul(3)
    norm = nn.BatchNorm2d(4).eval()
    expected = (x - x.mean((0, 2, 3), keepdim=True)) / x.var((0, 2, 3), keepdim=True, correction=0).sqrt()
    use_batch_statistics(norm.half())
    torch.testing.assert_close(norm(x.half()).float(), expected, rtol=0, atol=0.02)


def test_a_descent_in_half_precision_is_refused_by_name():
    with pytest.raises(Refused, match=r"^tent descends in float32; this model's norms are torch\.float16"):
        free_norms(tiny_resnet().half(), "tent")
