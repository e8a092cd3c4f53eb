import itertools

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters.tent import Tent
from evalsuite.errors import Refused, RequestError
from evalsuite.randomness import torch_generator


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.05), ("adam", 0.01)])
def test_entropy_falls_on_a_repeated_batch(build, optimizer, lr):
    run = adapt(build(), "tent", random_images(4), optimizer=optimizer, lr=lr)
    entropies = [float(softmax_entropy(run(random_images(32))).mean()) for _ in range(10)]
    assert all(later < earlier for earlier, later in itertools.pairwise(entropies))
    assert run.costs["forwards"] == run.costs["backwards"] == 10


def test_the_first_prediction_is_that_before_any_update():
    images = random_images(32)
    assert torch.equal(adapt(tiny_transformer(), "tent", images)(images), tiny_transformer()(images))
    assert torch.equal(adapt(tiny_resnet(), "tent", images)(images), tiny_resnet().train()(images))


def test_one_step_is_gradient_descent_on_the_mean_entropy_of_norm_parameters_only():
    model = tiny_transformer()
    run = adapt(model, "tent", random_images(4), optimizer="sgd", lr=0.1)
    run(random_images(32))
    softmax_entropy(model(random_images(32))).mean().backward()
    for name, parameter in run.state.model.named_parameters():
        before = model.get_parameter(name)
        expected = before - 0.1 * before.grad if "norm" in name else before
        torch.testing.assert_close(parameter, expected)


def test_the_authors_settings_follow_the_image_size():
    def optimizer(pixels, **options):
        images = torch.zeros(1, 3, pixels, pixels)
        return Tent(**options).prepare(tiny_resnet(), images, torch_generator(0)).optimizer

    assert isinstance(optimizer(32), torch.optim.Adam)
    assert optimizer(32).param_groups[0]["lr"] == 1e-3
    assert isinstance(optimizer(64), torch.optim.SGD)
    assert optimizer(224).param_groups[0]["lr"] == 2.5e-4
    assert optimizer(224).param_groups[0]["momentum"] == 0.9
    assert optimizer(224, optimizer="adam").param_groups[0]["lr"] == 1e-3
    assert optimizer(32, optimizer="sgd", lr=0.5).param_groups[0]["lr"] == 0.5


def test_group_norm_adapts_too():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(784, 3)).eval()
    run = adapt(model, "tent", random_images(4))
    run(random_images(4))
    assert run.costs["adapted_parameters"] == 8


class Overflowing(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(x.mean((2, 3)).repeat(1, 2)[:, :4]) * torch.tensor(float("inf"))


def test_an_update_that_is_not_finite_is_not_made():
    model = Overflowing()
    state = Tent().prepare(model, random_images(4), torch_generator(0))
    Tent().step(state, random_images(4))
    assert state.skipped == 1
    assert torch.equal(model.norm.weight, torch.ones(4))
    assert torch.equal(model.norm.bias, torch.zeros(4))


def test_it_learns_where_the_caller_has_switched_gradients_off():
    run = adapt(tiny_resnet(), "tent", random_images(4))
    with torch.no_grad():
        run(random_images(8))
    assert run.costs["adapted_parameters"] > 0


def test_refusals_and_bad_options():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(784, 3))
    with pytest.raises(Refused, match="tent needs norm layers"):
        adapt(plain, "tent", random_images(2))
    with pytest.raises(RequestError, match="lr = 0"):
        Tent(lr=0.0)
    with pytest.raises(RequestError, match="momentum = 1"):
        Tent(momentum=1.0)
