import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters.bn_adapt import BatchNormAdaptation
from evalsuite.errors import Refused, RequestError
from evalsuite.randomness import torch_generator


def single_norm():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 16 * 16, 2)).eval()
    model[0].running_mean += torch.tensor([1.0, -2.0, 0.5])
    model[0].running_var *= torch.tensor([2.0, 0.5, 1.0])
    return model


def test_outputs_are_those_of_the_network_in_train_mode():
    images = 2 * random_images(8) + 1
    with torch.no_grad():
        expected = tiny_resnet().train()(images)
    torch.testing.assert_close(adapt(tiny_resnet(), "bn_adapt", images)(images), expected)


@settings(deadline=None, max_examples=20)
@given(prior=st.floats(0.01, 1e4), images=st.integers(1, 9))
def test_the_prior_mixes_the_statistics_by_numbers_of_images(prior, images):
    model = single_norm()
    x = random_images(images) * 3 + 2
    share = prior / (prior + images)
    mean = share * model[0].running_mean + (1 - share) * x.mean((0, 2, 3))
    variance = share * model[0].running_var + (1 - share) * x.var((0, 2, 3), correction=0)
    normalised = (x - mean[:, None, None]) / (variance[:, None, None] + model[0].eps).sqrt()
    run = adapt(model, "bn_adapt", x, prior=prior)
    for _ in range(2):  # nothing is carried over from one batch to the next
        torch.testing.assert_close(run(x), model[2](normalised.flatten(1)), atol=1e-4, rtol=1e-4)


def test_priors_lead_from_the_batch_to_the_source():
    images = 2 * random_images(8) + 1
    batch = adapt(tiny_resnet(), "bn_adapt", images)(images)
    source = tiny_resnet()(images)
    nearly_batch = adapt(tiny_resnet(), "bn_adapt", images, prior=1e-6)(images)
    nearly_source = adapt(tiny_resnet(), "bn_adapt", images, prior=1e9)(images)
    torch.testing.assert_close(nearly_batch, batch, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(nearly_source, source, atol=1e-4, rtol=1e-4)


def test_one_value_per_channel_keeps_the_source_statistics():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2)).eval()
    model[1].running_mean += 1
    run = adapt(model, "bn_adapt", random_images(4))
    assert torch.equal(run(random_images(1)), model(random_images(1)))
    assert torch.equal(run(random_images(4)), model.train()(random_images(4)))


def test_refusals_and_bad_options():
    with pytest.raises(Refused, match="bn_adapt needs BatchNorm"):
        adapt(tiny_transformer(), "bn_adapt", random_images(2))
    without = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(768, 2))
    adapt(without, "bn_adapt", random_images(2))
    with pytest.raises(Refused, match="keeps none"):
        adapt(without, "bn_adapt", random_images(2), prior=1.0)
    for prior in (-1.0, float("inf"), float("nan")):
        with pytest.raises(RequestError, match="prior"):
            BatchNormAdaptation(prior).prepare(tiny_resnet(), random_images(2), torch_generator(0))
