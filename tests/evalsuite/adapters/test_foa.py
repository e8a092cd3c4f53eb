import numpy as np
import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.adaptation import adapt
from evalsuite.adapters.foa import FOA, InputOffset, PromptTokens
from evalsuite.errors import Refused, RequestError


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_population_and_mean_are_passed_forward_only(build):
    run = adapt(build(), "foa", random_images(16), population=6)
    run(random_images(8))
    assert (run.costs["forwards"], run.costs["backwards"], run.costs["adapted_parameters"]) == (7, 0, 0)


def test_the_global_generator_of_numpy_is_left_alone():
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.RandomState(3).rand()
    adapt(tiny_transformer(), "foa", random_images(4), population=4)(random_images(4))
    assert np.random.rand() == expected  # noqa: NPY002


def test_fitness_falls_on_a_repeated_batch():
    run = adapt(tiny_transformer(), "foa", random_images(32), population=12, moment_weight=1.0)
    images = 2 * random_images(16, 1) + 1
    best = []
    for _ in range(12):
        run(images)
        best.append(run.state.evolution.best.f)
    assert best[-1] < best[0]


def test_tokens_enter_after_the_prefix():
    tokens = PromptTokens(2, prefix=1)
    tokens.learn_width = True
    x = torch.randn(3, 5, 4)
    assert tokens.insert(nn.Identity(), (x,)) is None
    assert tokens.size == 8
    tokens.set(np.arange(8.0), x)
    (found,) = tokens.insert(nn.Identity(), (x,))
    assert found.shape == (3, 7, 4)
    assert torch.equal(found[:, :1], x[:, :1])
    assert torch.equal(found[:, 3:], x[:, 1:])
    assert found[0, 1:3].flatten().tolist() == list(range(8))
    tokens.clear()
    assert tokens.insert(nn.Identity(), (x,)) is None


def test_an_offset_of_zero_is_none():
    images = random_images(4)
    offset = InputOffset(images)
    offset.set(np.zeros(offset.size), images)
    assert torch.equal(offset.applied(images), images)
    offset.set(np.ones(offset.size), images)
    torch.testing.assert_close((offset.applied(images) - images)[0, :, 0, 0], 0.1 * images.std((0, 2, 3)))


def test_refusals_and_bad_options():
    with pytest.raises(Refused, match="at least 2 source images"):
        adapt(tiny_resnet(), "foa", random_images(1))
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 14), nn.Flatten()).eval()
    with pytest.raises(Refused, match="foa needs a classifier"):
        adapt(convolution, "foa", random_images(4))
    for options in ({"population": 1}, {"prompts": 0}, {"moment_weight": 0.0}, {"sigma": 0.0}):
        with pytest.raises(RequestError, match=next(iter(options))):
            FOA(**options)
