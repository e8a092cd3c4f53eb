import math

import pytest
import torch
from _dummies.models import CLASSES, random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters.sar import SAR
from evalsuite.errors import Refused, RequestError
from evalsuite.randomness import torch_generator


def test_the_step_follows_the_gradient_at_the_sharpest_neighbour():
    model, images = tiny_transformer(), random_images(32)
    run = adapt(model, "sar", random_images(4), margin=1.0, rho=0.05, lr=0.1, momentum=0.0)
    run(images)
    names = [name for name, parameter in run.state.model.named_parameters() if parameter.requires_grad]
    free = [model.get_parameter(name) for name in names]
    limit = math.log(CLASSES)
    entropy = softmax_entropy(model(images))
    reliable = entropy < limit
    first = torch.autograd.grad(entropy[reliable].mean(), free)
    norm = torch.cat([g.flatten() for g in first]).norm()
    before = [p.detach().clone() for p in free]
    with torch.no_grad():
        for parameter, gradient in zip(free, first, strict=True):
            parameter.add_(0.05 * gradient / norm)
    entropy = softmax_entropy(model(images))
    second = torch.autograd.grad(entropy[reliable & (entropy < limit)].mean(), free)
    for name, old, slope in zip(names, before, second, strict=True):
        torch.testing.assert_close(run.state.model.get_parameter(name), old - 0.1 * slope)


@pytest.mark.parametrize(("build", "frozen"), [(tiny_resnet, "layer3"), (tiny_transformer, "blocks.3")])
def test_the_last_stage_stays_as_it_is(build, frozen):
    state = SAR().prepare(build(), random_images(4), torch_generator(0))
    free = [name for name, parameter in state.model.named_parameters() if parameter.requires_grad]
    assert free
    assert not any(name.startswith((frozen, "norm.")) for name in free)


def test_two_passes_each_way_and_none_where_nothing_is_reliable():
    run = adapt(tiny_resnet(), "sar", random_images(4), margin=1.0)
    run(random_images(16))
    assert (run.costs["forwards"], run.costs["backwards"]) == (2, 2)
    idle = adapt(tiny_resnet(), "sar", random_images(4), margin=1e-6)
    idle(random_images(16))
    assert (idle.costs["forwards"], idle.costs["backwards"], idle.costs["adapted_parameters"]) == (1, 0, 0)


def test_a_collapse_starts_afresh():
    run = adapt(tiny_resnet(), "sar", random_images(4), margin=1.0, reset=100.0, lr=0.1)
    first = run(random_images(16))
    assert run.state.fresh_starts == 1
    assert run.costs["adapted_parameters"] == 0
    assert torch.equal(run(random_images(16)), first)
    never = adapt(tiny_resnet(), "sar", random_images(4), margin=1.0, reset=0.0, lr=0.1)
    never(random_images(16))
    assert never.state.fresh_starts == 0


def test_the_running_mean_goes_on_after_a_fresh_start():
    restarted, undisturbed = (
        adapt(tiny_resnet(), "sar", random_images(4), margin=1.0, reset=reset, lr=1e-30) for reset in (100.0, 0.0)
    )
    for seed in range(3):
        restarted(random_images(16, seed))
        undisturbed(random_images(16, seed))
    assert (restarted.state.fresh_starts, undisturbed.state.fresh_starts) == (3, 0)
    assert restarted.state.mean == pytest.approx(undisturbed.state.mean)


def test_a_fresh_start_may_follow_another_while_the_mean_is_low():
    run = adapt(tiny_resnet(), "sar", random_images(4), margin=1.0, reset=0.2)
    run.state.mean = 0.0
    margin = 1e-6  # nothing is reliable, so the mean does not move
    SAR(margin=margin, reset=0.2).step(run.state, random_images(16))
    SAR(margin=margin, reset=0.2).step(run.state, random_images(16))
    assert run.state.fresh_starts == 2


def test_refusals_and_bad_options():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(784, 3))
    with pytest.raises(Refused, match="sar needs norm layers"):
        adapt(plain, "sar", random_images(2))
    for options in ({"margin": 0.0}, {"rho": 0.0}, {"reset": -1.0}):
        with pytest.raises(RequestError, match=next(iter(options))):
            SAR(**options)
